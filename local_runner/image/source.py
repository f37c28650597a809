"""What the project says about its processing image. Reads the image directory's Dockerfile; no Docker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from local_runner.errors import SettingsError
from local_runner.settings import Settings

DEFAULT_PYTHON = "3.11"

_ARG = re.compile(r"""^ARG\s+(\w+)(?:=(["']?)(.*?)\2)?\s*$""", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class ImageSource:
    """The image directory, and what its Dockerfile's ARGs before the first FROM say.

    ``base_image`` is the default of ``ARG BASE_IMAGE`` (None: the Dockerfile has none, its base is fixed).
    ``python_version`` is the base's Python as major.minor: ``ARG PYTHON_VERSION``, else the base's tag
    where it is a ``python:`` image, else 3.11. Wheels and the sandbox's environment are chosen for it.
    """

    directory: Path
    base_image: str | None
    python_version: str

    @property
    def dockerfile(self) -> Path:
        return self.directory / "Dockerfile"

    @property
    def requirements(self) -> Path:
        return self.directory / "requirements.txt"

    @property
    def wheels(self) -> Path:
        """Where the project keeps wheels that no index has; it need not exist."""
        return self.directory / "wheels"


def read_image_source(settings: Settings) -> ImageSource:
    """The image directory of the settings. Raises SettingsError where a part of it is missing."""
    directory = settings.root / settings.image.directory
    if not directory.is_dir():
        raise SettingsError(
            f"The image directory {directory} does not exist. Create it with a Dockerfile and a "
            "requirements.txt, or name the right one as 'directory' under [image] in local_runner.toml."
        )
    for name, purpose in (
        ("Dockerfile", "the processing image is built from it"),
        ("requirements.txt", "it may be empty"),
    ):
        if not (directory / name).is_file():
            raise SettingsError(f"{directory / name} is missing. Create it ({purpose}).")
    try:
        values = _arguments((directory / "Dockerfile").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{directory / 'Dockerfile'} cannot be read as text: {error}.") from None
    base = values.get("BASE_IMAGE")
    version = re.match(r"\d+\.\d+", values.get("PYTHON_VERSION", ""))
    version = version or re.search(r"(?<=\bpython:)\d+\.\d+", base or "")
    return ImageSource(directory, base or None, version.group() if version else DEFAULT_PYTHON)


def _arguments(dockerfile: str) -> dict[str, str]:
    """The ARGs that have defaults and stand before the first FROM, with the earlier ones filled in."""
    values: dict[str, str] = {}
    for line in map(str.strip, dockerfile.splitlines()):
        if re.match(r"FROM\s", line, re.IGNORECASE):
            break
        if (match := _ARG.match(line)) and match[3] is not None:
            values[match[1]] = _VARIABLE.sub(lambda name: values.get(name[1] or name[2], ""), match[3])
    return values
