"""A project on this machine: what every stage is given that touches the disk, an engine or the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local_runner.settings import Settings, load_settings

STATE_DIRECTORY = Path(".local_runner")
"""Where the state of a project is kept, below its root, unless a command or test says otherwise."""


@dataclass(frozen=True)
class Project:
    """Where a project's runs happen, and who is shown what they are doing.

    ``settings`` are those of its local_runner.toml, ``state`` is its state directory (absolute), and ``note`` gets one
    line for each thing that takes time or that the user should know.
    """

    settings: Settings
    state: Path
    note: Callable[[str], None]

    @classmethod
    def at(cls, root: Path, state: Path, note: Callable[[str], None]) -> Project:
        """The project in a directory. Raises SettingsError with every problem of its settings."""
        return cls(load_settings(root), state.absolute(), note)
