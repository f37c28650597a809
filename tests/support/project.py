"""This project, and copies of it."""

from __future__ import annotations

import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def copy_of_project(root: Path) -> Path:
    """What a user of this project has of their own, in another directory: pipeline, processing, settings."""
    shutil.copytree(PROJECT / "processing", root / "processing")
    for name in ("pipeline.py", "local_runner.toml"):
        shutil.copy(PROJECT / name, root)
    return root


def link_caches(state: Path, *shared: str) -> Path:
    """A state directory that uses what takes long to make of the project's own.

    ``shared``: which of it; by default the image cache, the sandbox's environment and the compiled definitions.
    """
    for name in shared or ("cache", "compiled"):
        of_project = PROJECT / ".local_runner" / name
        of_project.mkdir(parents=True, exist_ok=True)
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).symlink_to(of_project)
    return state
