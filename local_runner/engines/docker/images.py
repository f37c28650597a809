"""The local images that image URIs mean: found, or pulled. Talks to the Docker engine, and to no registry of AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from local_runner.engines.docker.errors import engine_errors, first_line
from local_runner.errors import EngineError


class LocalImages:
    """The images of one engine. ``resolve`` says which local image an image URI of the definition means."""

    def __init__(self, client: Any, resolve: Callable[[str], str]) -> None:
        self._client = client
        self._resolve = resolve
        self._found: dict[str, str] = {}

    def __contains__(self, uri: str) -> bool:
        return uri in self._found

    def __getitem__(self, uri: str) -> str:
        """The local image of a URI that was made ready (KeyError)."""
        return self._found[uri]

    def prepare(self, uris: Iterable[str]) -> None:
        """Find, build or pull each image. Raises EngineError that lists every one that is not here."""
        from docker.errors import ImageNotFound

        missing: list[str] = []
        for uri in dict.fromkeys(uris):
            image = self._resolve(uri)
            try:
                self._found[uri] = self._client.api.inspect_image(image)["Id"]
            except ImageNotFound:
                if reason := self._pull(image):
                    missing.append(f"  {uri}" + (f" ({image})" if image != uri else "") + f": {reason}")
                else:
                    self._found[uri] = image
        if missing:
            raise EngineError(
                "These images are not on this machine:\n" + "\n".join(missing) + "\n"
                "Say which local image stands in for one: --image URI=TAG, or --image TAG for all of them."
            )

    def id_of(self, uri: str) -> str | None:
        """The id of the local image that the URI means, which is a digest of its content; None where it is not here."""
        try:
            return str(self._client.api.inspect_image(self._found.get(uri) or self._resolve(uri))["Id"])
        except engine_errors():
            return None

    def _pull(self, image: str) -> str | None:
        """Pull an image that is not here; the reason where that cannot be. Nothing is asked of AWS."""
        from docker.errors import APIError

        if ".amazonaws.com" in image:
            return "an ECR image, and a local run does not call AWS"
        if image.startswith("local-runner/") or ":" not in image.rpartition("/")[2]:
            return "no such image"
        try:
            self._client.images.pull(image)
        except APIError as error:
            return f"cannot be pulled ({first_line(error.explanation or error)})"
        return None
