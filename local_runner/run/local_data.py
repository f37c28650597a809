"""The local S3 of a project: its tree, what the settings and the command line map in, and the project's code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from local_runner.errors import SettingsError
from local_runner.project import Project
from local_runner.storage.local_s3 import CODE_PREFIX, Source, Storage
from local_runner.storage.s3_uri import s3_problem


def local_storage(project: Project, data: Mapping[str, Path]) -> Storage:
    """Local S3 with the project's mappings, those of ``data`` in place of the same URI's, and the project's code.

    Raises SettingsError for data that is not there, or is mapped to what is no S3 URI.
    """
    settings = project.settings
    mapped = {
        uri.rstrip("/"): (settings.root / path, f"[local.data] {uri}") for uri, path in settings.local.data.items()
    }
    mapped |= {uri.rstrip("/"): (path.absolute(), f"--map {uri}") for uri, path in data.items()}
    wrong = [f"  {uri}: {problem}" for uri in (*settings.local.data, *data) if (problem := s3_problem(uri))]
    if wrong:
        raise SettingsError("Data is mapped to what is no S3 URI:\n" + "\n".join(wrong))
    missing = [f"  {label}: {path}" for path, label in mapped.values() if not _is_there(path)]
    if missing:
        raise SettingsError("Mapped data is not there:\n" + "\n".join(missing))
    sources = [Source(uri, path) for uri, (path, _) in mapped.items()]
    code = Source(f"s3://{settings.local.bucket}/{CODE_PREFIX}", settings.root, code=True)
    return Storage(project.state / "s3", (*sources, code))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False
