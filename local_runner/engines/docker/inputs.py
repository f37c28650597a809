"""A host's inputs as mounts of its container: overlay volumes, or copies. Copies with cp; talks to nobody."""

from __future__ import annotations

import subprocess
from typing import Any

from local_runner.models import InputMount
from local_runner.storage.job_tree import FOLDER_MODE
from local_runner.storage.uniform import make_uniform


class InputMounts:
    """Makes overlays until the engine has refused one, and copies from then on."""

    def __init__(self) -> None:
        self._overlay = True

    def refused(self, error: str) -> bool:
        """Whether the error of a container's start is the refusal of an overlay, which is then not tried again."""
        if self._overlay and "mount" in error and "overlay" in error:
            self._overlay = False
            return True
        return False

    def mount(self, mount: InputMount, labels: dict[str, str]) -> Any:
        """The mount of an input. Raises CalledProcessError where it cannot be copied."""
        from docker.types import DriverConfig, Mount

        upper, work, merged = (mount.scratch / name for name in ("upper", "work", "merged"))
        paths = [str(path) for path in (*mount.layers, upper, work)]
        if self._overlay and not any(character in path for path in paths for character in ',:\\"'):
            for directory in (upper, work):
                directory.mkdir(exist_ok=True)
                directory.chmod(FOLDER_MODE)
            lower = ":".join(str(layer.resolve()) for layer in mount.layers)
            options = {"type": "overlay", "device": "overlay", "o": f"lowerdir={lower},upperdir={upper},workdir={work}"}
            driver = DriverConfig("local", options)
            return Mount(mount.local_path, None, type="volume", driver_config=driver, labels=labels)
        merged.mkdir(exist_ok=True)
        for layer in reversed(mount.layers):
            subprocess.run(
                ["cp", "-R", "--reflink=auto", "--", f"{layer}/.", str(merged)], check=True, stderr=subprocess.PIPE
            )
        make_uniform(merged)
        return Mount(mount.local_path, str(merged), type="bind")
