"""Runs the pipeline again whenever one of its files is saved, until Ctrl-C. Watches the project and its data.

Each run goes through all stages in this process: what did not change comes from the caches of definitions and steps,
and what did runs in hot workers. A newer save ends the run in progress. Nothing that is wrong with the project ends
the watch: it is shown, and the next save is waited for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from watchfiles import Change, DefaultFilter
from watchfiles import watch as changes_of

from local_runner.engines import Engine
from local_runner.errors import LocalRunnerError
from local_runner.project import Project
from local_runner.report.watched import WatchListener
from local_runner.run.engine import open_engine
from local_runner.run.pipeline import run_planned
from local_runner.run.planned import plan_run
from local_runner.run.request import RunRequest
from local_runner.settings import SETTINGS_FILE, Settings, load_settings

_DEBOUNCE_MS = 50
_STEP_MS = 10
_TEMPORARY = (r"^4913$", r"^\.#", r"^#.*#$", r"\.tmp$", r"\.sw[a-z]$", r"^___jb_")
"""What editors write beside a file while they save it; watchfiles knows some more."""


class _Filter(DefaultFilter):
    """What of the watched directories no run can depend on."""

    ignore_dirs = (*DefaultFilter.ignore_dirs, ".ruff_cache", "node_modules")
    ignore_entity_patterns = (*DefaultFilter.ignore_entity_patterns, *_TEMPORARY)

    def __init__(self, state: Path) -> None:
        super().__init__(ignore_paths=[state])


@dataclass
class _Watch:
    """What is kept between two runs: the engine, which has to be made anew when the image or the settings change."""

    root: Path
    request: RunRequest
    state: Path
    shown: WatchListener
    settings: Settings | None = None
    engine: Engine | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def begin(self, changed: Iterable[Path], saved: float) -> None:
        """End the run in progress, and start the next one. ``saved`` is the clock at the save."""
        self.end()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(list(changed), saved, self.stop), name="run")
        self.thread.start()

    def end(self) -> None:
        """End the run in progress."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join()

    def close(self) -> None:
        """End all that was started."""
        self.end()
        self._drop_engine()

    def watched(self) -> list[Path]:
        """The project and the data outside of it."""
        places = [self.root, *(path.absolute() for path in self.request.data.values())]
        with suppress(LocalRunnerError):
            settings = self.settings or load_settings(self.root)
            places += [(self.root / path).resolve() for path in settings.local.data.values()]
        outside = {path for path in places if path == self.root or not path.is_relative_to(self.root)}
        return sorted(path for path in outside if path.exists())

    def _run(self, changed: list[Path], saved: float, stop: threading.Event) -> None:
        self.shown.begin([_shown(path, self.root) for path in changed], saved)
        try:
            self._forget(changed)
            self._stages(stop)
        except LocalRunnerError as error:
            if not stop.is_set():
                self.shown.error(error.message)
        except Exception as error:
            self.shown.error(f"{type(error).__name__}: {error} (a defect of local-runner). Waiting for the next save.")

    def _forget(self, changed: list[Path]) -> None:
        """Drop what was made of files that changed."""
        if self.settings is None or self.root / SETTINGS_FILE in changed:
            self.settings = None
            self._drop_engine()
            self.settings = load_settings(self.root)
        image = (self.root / self.settings.image.directory).resolve()
        if any(path.is_relative_to(image) and path.suffix != ".py" for path in changed):
            self._drop_engine()

    def _stages(self, stop: threading.Event) -> None:
        assert self.settings is not None
        project = Project(self.settings, self.state, self.shown.note)
        planned = plan_run(project, self.request)
        if stop.is_set():
            return
        if self.engine is None:
            self.engine = open_engine(project, self.request, planned.storage, watching=True)
        run_planned(project, planned, self.shown, self.engine, stop)

    def _drop_engine(self) -> None:
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.close()


def watch(root: Path, request: RunRequest, state: Path, stream: TextIO) -> None:
    """Run the request once, and again at each save, until SIGINT, SIGTERM or SIGHUP. Leaves nothing running behind."""
    state = state.absolute()
    state.mkdir(parents=True, exist_ok=True)
    root = root.resolve()
    watching = _Watch(root, replace(request, hot=True, cache=True), state, WatchListener(stream))
    try:
        watching.begin([], time.time())
        for changes in changes_of(
            *watching.watched(),
            watch_filter=_Filter(state),
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            rust_timeout=1000,
            recursive=True,
            raise_interrupt=True,
        ):
            watching.begin(*_what_and_when(changes))
    except KeyboardInterrupt:
        watching.shown.note("Ending.")
    finally:
        watching.close()


def _what_and_when(changes: Iterable[tuple[Change, str]]) -> tuple[list[Path], float]:
    """The files that changed, and when the last of them was saved (seconds since 1970)."""
    paths = sorted({Path(path) for _, path in changes})
    times: list[float] = []
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    now = time.time()
    saved = max(times, default=now)
    return paths, saved if now - 5 < saved <= now else now  # a file may have been moved here with its old time


def _shown(path: Path, root: Path) -> str:
    return os.path.relpath(path, root) if path.is_relative_to(root) else str(path)
