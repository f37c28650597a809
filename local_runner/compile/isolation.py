"""The compiling process in Linux namespaces: what it sees, and its start and end. Starts processes, no network.

pipeline.py is somebody's code. Here it has no network at all (also no abstract sockets of this machine), an empty home,
a /tmp, /run and /var of its own, and no processes but its own. Of the files of this machine it sees

- the project, writable, since pipeline.py may write a script beside itself; but what is run or believed outside of the
  namespaces is read-only in it: .git, virtual environments, local_runner.toml, and the state directory;
- the interpreter, what is on its path and what is installed there as editable, read-only;
- the Git repository that the project is in, and what the setting ``also_reads`` names, read-only;
- the rest of the system without the home directories, read-only.

The launcher is the sandbox's (``engines/sandbox/program/``); where it cannot make namespaces, ``unavailable`` says why.
"""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from local_runner.engines.instances import MOST_PROCESSES, SHM_SIZE
from local_runner.engines.sandbox.launch import message, start
from local_runner.engines.sandbox.view import LIMITS, Host, HostView, Mount, Specification, is_below, prefixes_of
from local_runner.settings import SETTINGS_FILE

_PACKAGE = Path(__file__).parents[1]
_OWN = frozenset(("proc", "sys", "dev", "run", "tmp", "var", "home", "root", "boot", "opt", "lost+found", ".old"))
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")


class NoNamespacesError(Exception):
    """The process was not started; the text says what could not be done."""


@dataclass(frozen=True)
class Compiling:
    """What is compiled with what. All paths are absolute; ``root`` and ``file`` are without links.

    ``path`` is where the interpreter ``program`` looks for modules, ``writable`` are directories below ``state``,
    ``also_reads`` what pipeline.py reads elsewhere.
    """

    root: Path
    file: Path
    state: Path
    program: str
    path: Sequence[str]
    writable: Sequence[Path]
    also_reads: Sequence[Path] = ()


def unavailable() -> str | None:
    """None where a compile is isolated on this machine; otherwise why not. Takes about 30 ms."""
    from local_runner.engines.sandbox import engine as sandbox

    return sandbox.available(network_isolation=True)


class IsolatedProcess:
    """A program in namespaces. ``scratch`` is a directory below ``compiling.state``, the launcher's to remove.

    ``log`` is the descriptor its output goes to. Leaving the context ends whatever is left of it and removes
    ``scratch``; so does the end of this process, however it comes.
    """

    def __init__(
        self, compiling: Compiling, argv: Sequence[str], environment: Mapping[str, str], scratch: Path, log: int
    ) -> None:
        self._log = os.dup(log)  # one that may be 2 is the launcher's own
        try:
            specification = _specification(compiling, argv, environment, scratch, self._log)
            self._process = start(scratch, [self._log])
        finally:
            os.close(self._log)
        self._message = message(specification)

    def __enter__(self) -> IsolatedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        with self._process:
            pass

    def wait(self) -> int:
        """Run it, and return its exit code (128 + N for signal N). Raises NoNamespacesError if it was not started."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):
            left = memoryview(self._message)
            while left:
                left = left[self._process.stdin.write(left) :]
        report = self._process.stdout.readline().decode(errors="replace")
        kind, _, rest = report.strip().partition(" ")
        if kind != "exit":
            raise NoNamespacesError(rest.partition(" ")[2] or report.strip() or "the launcher ended")
        return int(rest.split()[1])


def _specification(
    compiling: Compiling, argv: Sequence[str], environment: Mapping[str, str], scratch: Path, log: int
) -> Specification:
    own = scratch / "namespaces"
    for name in ("host", "home", "tmp", "empty"):
        (own / name).mkdir(parents=True, exist_ok=True)
    (own / "empty-file").touch()
    homes = _homes()
    view = HostView(Path(compiling.program).parents[1], [Path(home) for home in homes])
    system = [(f"/{name}", f"/{name}") for name in _others(homes)]
    read_only = [*view.read_only, *system]
    visible = [target for _, target in read_only]
    hidden = sorted({*view.hidden, *(home for home in homes if is_below(home, visible))})
    mounts = _mounts(compiling, environment, own, homes)
    return Specification(
        hosts=[
            Host(
                name=os.fsencode(os.uname().nodename),
                directory=os.fsencode(os.path.realpath(own / "host")),
                log=log,
                read_only=[(os.fsencode(source), os.fsencode(target)) for source, target in read_only],
                hidden=[os.fsencode(path) for path in hidden],
                links=[(os.fsencode(content), os.fsencode(path)) for content, path in view.links],
                mounts=[
                    Mount(
                        target=os.fsencode(target),
                        sources=[os.fsencode(os.path.realpath(source))],
                        scratch=b"",
                        read_only=not writable,
                    )
                    for target, (source, writable) in sorted(mounts.items(), key=lambda item: item[0].count("/"))
                ],
                argv=[os.fsencode(word) for word in argv],
                working_directory=os.fsencode(compiling.root),
                environment={os.fsencode(name): os.fsencode(value) for name, value in environment.items()},
                shm_size=SHM_SIZE,
                limits=LIMITS,
                most_processes=MOST_PROCESSES,
                processors=[],
            )
        ],
        network_isolation=True,
        hold=True,
        remove=[os.fsencode(os.path.realpath(scratch))],
        empty=[],
    )


def _homes() -> list[str]:
    """The home directories: where HOME says, where the user's is, and where the others' are."""
    found = [os.path.expanduser("~"), "/home", "/root"]
    with suppress(KeyError):
        found.append(pwd.getpwuid(os.geteuid()).pw_dir)
    names = dict.fromkeys(path for home in found for path in (os.path.abspath(home), os.path.realpath(home)))
    return [name for name in names if name != "/"]


def _others(homes: Sequence[str]) -> Iterator[str]:
    """The directories at the top of the file system that are neither the system's nor anybody's home."""
    for entry in os.scandir("/"):
        known = entry.name in _OWN or entry.is_symlink() or entry.path in homes
        if not known and entry.is_dir():
            yield entry.name


def _mounts(
    compiling: Compiling, environment: Mapping[str, str], own: Path, homes: Sequence[str]
) -> dict[str, tuple[str, bool]]:
    """Target -> (source, whether it is writable). Of two with one target, the first counts."""
    root, state = str(compiling.root), str(compiling.state)
    mounts: dict[str, tuple[str, bool]] = {root: (root, True)}

    def show(path: str, *, writable: bool = False) -> None:
        if os.path.exists(path):
            mounts.setdefault(path, (path, writable))

    def exposes_home(path: str) -> bool:
        real = os.path.realpath(path)
        return real == "/" or any(home == real or is_below(home, [real]) for home in homes)

    for path in compiling.writable:
        show(str(path), writable=True)
    show(state)
    if not compiling.file.is_relative_to(root):
        directory = str(compiling.file.parent)
        show(str(compiling.file) if exposes_home(directory) else directory, writable=not exposes_home(directory))
    for path in compiling.also_reads:
        show(str(path))
    for prefix in prefixes_of(Path(compiling.program).parents[1], set(homes)):
        show(os.path.realpath(prefix) if is_below(prefix, [root]) else prefix)
    for path in [*compiling.path, *_editable(compiling.path), str(_PACKAGE)]:
        if os.path.isabs(path) and not is_below(path, [root]) and not exposes_home(path):
            show(path)
    for path in compiling.root.parents:
        if (path / ".git").exists() and not exposes_home(str(path)):
            show(str(path))
    for path in _protected(compiling.root):
        show(str(path))
    home = os.path.realpath(environment.get("HOME") or os.path.expanduser("~"))
    if exposes_home(root):  # the project is somebody's home, or has one in it
        for entry in os.scandir(home if os.path.isdir(home) else root):
            if entry.name.startswith(".") and not is_below(f"{state}/", [entry.path]) and not entry.is_symlink():
                mounts.setdefault(entry.path, (str(own / ("empty" if entry.is_dir() else "empty-file")), True))
    places = [(environment.get("HOME", ""), "home"), *((environment.get(name, ""), "tmp") for name in _TEMPORARY)]
    for place, name in places:
        if os.path.isabs(place) and os.path.normpath(place) not in ("/", "/tmp") and not is_below(place, [root]):
            with suppress(OSError):
                if os.path.isdir(place):
                    mounts.setdefault(os.path.normpath(place), (str(own / name), True))
    return mounts


def _protected(root: Path) -> Iterator[Path]:
    """What in the project is run, or believed, outside of the namespaces."""
    yield root / ".git"
    yield root / SETTINGS_FILE
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False) and os.path.exists(f"{entry.path}/pyvenv.cfg"):
            yield Path(entry.path)


def _editable(path: Sequence[str]) -> Iterator[str]:
    """The source directories of the packages that are installed as editable (PEP 610)."""
    for directory in path:
        with suppress(OSError):
            for entry in os.scandir(directory):
                if entry.name.endswith(".dist-info"):
                    with suppress(OSError, ValueError, AttributeError):
                        content = json.loads(Path(entry.path, "direct_url.json").read_text(encoding="utf-8"))
                        if content.get("dir_info", {}).get("editable"):
                            yield unquote(urlsplit(str(content["url"])).path)
