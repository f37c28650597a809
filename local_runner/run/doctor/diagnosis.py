"""All checks side by side, and what follows from them: the engine that ``auto`` takes, whether a run is possible."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local_runner.errors import LocalRunnerError
from local_runner.run.doctor import docker, machine
from local_runner.run.doctor.check import Check, disk_space
from local_runner.settings import Settings


@dataclass(frozen=True)
class Diagnosis:
    """All checks, the engine that ``auto`` will choose (None: none), and whether the project's pipeline can run."""

    checks: tuple[Check, ...]
    engine: str | None
    possible: bool

    def record(self) -> dict[str, Any]:
        """The JSON of ``doctor --json``."""
        checks = [{key: value for key, value in asdict(check).items() if value} for check in self.checks]
        return {"possible": self.possible, "engine": self.engine, "checks": checks}


def diagnose(root: Path, state: Path) -> Diagnosis:
    """Look at everything, side by side: most of the time goes by in waiting for other programs."""
    try:
        settings, source, project = machine.project(root)
    except LocalRunnerError as error:
        settings, source, project = Settings(root=root), None, Check(machine.PROJECT, "gap", error.message)
    looks: tuple[Callable[[], list[Check]], ...] = (
        machine.python,
        lambda: [machine.package_index(root)],
        lambda: [machine.sdk(), project],
        lambda: docker.engine(settings, source),
        lambda: [docker.compose()],
        lambda: [*machine.sandbox(source, state), machine.compiling()],
        lambda: [machine.credentials(os.environ, Path.home()), disk_space("Disk", state, "make clean")],
    )
    with ThreadPoolExecutor(len(looks)) as threads:
        futures = [threads.submit(look) for look in looks]
        checks = [check for future in futures for check in future.result()]
    good = {check.name for check in checks if check.state != "gap"}
    engine = "docker" if docker.ENGINE in good else "sandbox" if {machine.SANDBOX, machine.PACKAGES} <= good else None
    return Diagnosis((*checks, _chosen(engine)), engine, engine is not None and {machine.PROJECT, machine.SDK} <= good)


def _chosen(engine: str | None) -> Check:
    if engine is None:
        return Check("A run uses", "gap", "no engine: mend one of the gaps above")
    return Check("A run uses", "ok", f"{engine} (--engine auto)")
