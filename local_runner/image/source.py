"""What the project says about its processing image. Reads the image directory's Dockerfile; no Docker."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from local_runner.errors import SettingsError
from local_runner.settings import DEFAULT_IMAGE_DIRECTORY, Settings

DEFAULT_PYTHON = "3.11"

_ARG = re.compile(r"""^ARG\s+(\w+)(?:=(["']?)(.*?)\2)?\s*$""", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class ImageSource:
    """The image directory, and what its Dockerfile's ARGs before the first FROM say.

    ``base_image`` is the default of ``ARG BASE_IMAGE`` (None: the Dockerfile has none, its base is fixed).
    ``python_version`` is the base's Python as major.minor: ``ARG PYTHON_VERSION``, else the base's tag
    where it is a ``python:`` image, else 3.11. Wheels and the sandbox's environment are chosen for it.
    ``plain`` says that there is no image directory: no image can be built, and only the sandbox can use this.
    ``packages`` is then the file that names what it installs (None: nothing).
    """

    directory: Path
    base_image: str | None
    python_version: str
    plain: bool = False
    packages: Path | None = None

    @property
    def dockerfile(self) -> Path:
        return self.directory / "Dockerfile"

    @property
    def requirements(self) -> Path:
        if self.plain:
            return self.packages or Path(os.devnull)
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
            f"The image local/processing cannot be built: its directory {directory} does not exist. Say which local "
            "image stands in for it (--image local/processing=TAG). Or create the directory with a Dockerfile and a "
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


def read_sandbox_source(settings: Settings) -> ImageSource:
    """What the sandbox's environment is made of: the image directory or, in a project without one, this Python and what
    ``requirements`` under ``[image]`` names. Raises SettingsError where what the settings name is missing."""
    image = settings.image
    packages = settings.root / image.requirements if image.requirements else None
    if image.directory != DEFAULT_IMAGE_DIRECTORY or (settings.root / image.directory).is_dir():
        source = read_image_source(settings)
        if packages:
            raise SettingsError(
                f"image.requirements in local_runner.toml is for projects without an image directory, and here is "
                f"{source.directory}. Name the packages in {source.requirements}, and remove the setting."
            )
        return source
    if packages and not packages.is_file():
        raise SettingsError(
            f"{packages} does not exist: 'requirements' under [image] in local_runner.toml names it. Create it, or "
            "remove the setting."
        )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return ImageSource(settings.root, None, version, plain=True, packages=packages)


def _arguments(dockerfile: str) -> dict[str, str]:
    """The ARGs that have defaults and stand before the first FROM, with the earlier ones filled in."""
    values: dict[str, str] = {}
    for line in map(str.strip, dockerfile.splitlines()):
        if re.match(r"FROM\s", line, re.IGNORECASE):
            break
        if (match := _ARG.match(line)) and match[3] is not None:
            values[match[1]] = _VARIABLE.sub(lambda name: values.get(name[1] or name[2], ""), match[3])
    return values
