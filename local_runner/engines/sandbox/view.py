"""What a sandboxed job sees: the specification that ``program/`` carries out.

Reads the file system, changes nothing.

Of the host's files a job sees the system (/usr, /etc, /opt, ...), the processing environment and the
interpreter that the environment is built on, all read-only. Everything else, the project and the home
directory first of all, is not there.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from local_runner.engines.instances import MOST_PROCESSES, SHM_SIZE, ULIMITS
from local_runner.models import InputMount, StagedHost, StagedJob

_SYSTEM = ("usr", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu", "sys")
LIMITS = [(int(getattr(resource, f"RLIMIT_{name.upper()}")), most) for name, most in ULIMITS.items()]
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Mount(TypedDict):
    """A mount of the job's own: an overlay of ``sources`` (top first); without ``scratch``, a bind."""

    target: bytes
    sources: list[bytes]
    scratch: bytes
    read_only: bool


class Host(TypedDict):
    """One host of the job.

    Every path is absolute and without links. ``directory`` is an empty one for the host's own files, ``log``
    the number of an inherited file descriptor, ``read_only`` are (source, target) pairs, ``links`` (content,
    path) pairs of symbolic links; of ``mounts``, parents come before children. ``limits`` are those of
    setrlimit(2) by number, ``processors`` the numbers of those that it runs on; none is all.
    """

    name: bytes
    directory: bytes
    log: int
    read_only: list[tuple[bytes, bytes]]
    hidden: list[bytes]
    links: list[tuple[bytes, bytes]]
    mounts: list[Mount]
    argv: list[bytes]
    working_directory: bytes
    environment: dict[bytes, bytes]
    shm_size: int
    limits: list[tuple[int, int]]
    most_processes: int
    processors: list[int]


class Specification(TypedDict):
    """A whole job.

    At the end the launcher clears ``remove`` and ``empty`` away; with ``hold``, it first reports the end and waits
    until its standard input is closed.
    """

    hosts: list[Host]
    network_isolation: bool
    hold: bool
    remove: list[bytes]
    empty: list[bytes]


class HostView:
    """The part of the host that every job of an engine sees; found out once.

    ``read_only`` are (source, target) pairs of absolute paths, ``hidden`` are directories below them that are
    to be empty, ``links`` are (content, path) pairs of symbolic links.
    """

    def __init__(self, environment: Path, hidden: Sequence[Path] = ()) -> None:
        self.path = f"{environment.absolute()}/bin:{_SYSTEM_PATH}"
        self.links = [(os.readlink(f"/{name}"), f"/{name}") for name in _SYSTEM if Path(f"/{name}").is_symlink()]
        closed = [os.path.expanduser("~"), *(str(path.absolute()) for path in hidden)]
        covered = {*closed, *map(os.path.realpath, closed)}
        system = [f"/{name}" for name in _SYSTEM if Path(f"/{name}").is_dir() and not Path(f"/{name}").is_symlink()]
        for entry in _children("/opt"):
            if entry.is_symlink():
                self.links.append((os.readlink(entry), entry.path))
            elif entry.path not in covered and entry.name != "ml" and (entry.is_dir() or entry.is_file()):
                system.append(entry.path)
        self.hidden = sorted(path for path in covered if is_below(path, system))
        targets = system[:]
        for prefix in prefixes_of(environment, covered):
            seen = [target for target in targets if prefix == target or is_below(prefix, [target])]
            shut = [path for path in self.hidden if is_below(path, seen)]
            if not seen or is_below(prefix, shut):
                targets.append(prefix)
        self.read_only = [(os.path.realpath(target), target) for target in targets]
        resolver = os.path.realpath("/etc/resolv.conf")
        if os.path.exists(resolver) and not is_below(resolver, targets):
            self.read_only.append((resolver, resolver))  # where /etc/resolv.conf is a link into /run

    def host(
        self,
        host: StagedHost,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        hosts_file: Path,
        log: int,
        processors: Sequence[int],
    ) -> Host:
        """The specification of one host; ``directory`` is an empty one of its own, ``log`` a descriptor."""
        read_only = [(os.fsencode(source), os.fsencode(target)) for source, target in self.read_only]
        if os.path.exists("/etc/hosts"):
            read_only.append((os.fsencode(hosts_file), os.fsencode(os.path.realpath("/etc/hosts"))))
        mounts = [_input(mount) for mount in host.inputs]
        mounts += [
            Mount(
                target=_target(bind.local_path),
                sources=[os.fsencode(os.path.realpath(bind.source))],
                scratch=b"",
                read_only=False,
            )
            for bind in host.binds
        ]
        variables = {
            "PATH": self.path,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "TZ": "UTC",  # as in a container, whatever this machine's is
            "PYTHONUNBUFFERED": "1",
            "HOSTNAME": host.name,
            **environment,
        }
        return Host(
            name=host.name.encode(),
            directory=os.fsencode(directory),
            log=log,
            read_only=read_only,
            hidden=[os.fsencode(path) for path in self.hidden],
            links=[(os.fsencode(content), os.fsencode(path)) for content, path in self.links],
            mounts=sorted(mounts, key=lambda mount: mount["target"].count(b"/")),
            argv=[os.fsencode(word) for word in argv],
            working_directory=b"/",
            environment={os.fsencode(name): os.fsencode(value) for name, value in variables.items()},
            shm_size=SHM_SIZE,
            limits=LIMITS,
            most_processes=MOST_PROCESSES,
            processors=list(processors),
        )

    def job(
        self, staged: StagedJob, base: Path, logs: Sequence[int], processors: Sequence[Sequence[int]]
    ) -> Specification:
        """The whole job's specification; ``base`` has a directory for each host and the file ``hosts``.

        ``logs`` and ``processors`` are those of each host.
        """
        job = staged.job
        return Specification(
            hosts=[
                self.host(host, job.command, job.environment, base / host.name, base / "hosts", log, run_on)
                for host, log, run_on in zip(staged.hosts, logs, processors, strict=True)
            ],
            network_isolation=job.network_isolation,
            hold=False,
            remove=[os.fsencode(base)],
            empty=[os.fsencode(mount.scratch.absolute()) for host in staged.hosts for mount in host.inputs],
        )


def hosts_file(names: Sequence[str]) -> str:
    """An /etc/hosts in which each host of the job has a loopback address of its own."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"127.0.0.{number} {name}" for number, name in enumerate(names, 1)]
    return "".join(f"{line}\n" for line in lines)


def _input(mount: InputMount) -> Mount:
    return Mount(
        target=_target(mount.local_path),
        sources=[os.fsencode(os.path.realpath(layer)) for layer in mount.layers],
        scratch=os.fsencode(os.path.realpath(mount.scratch)),
        read_only=False,
    )


def _target(local_path: str) -> bytes:
    return os.fsencode("/" + os.path.normpath(local_path).lstrip("/"))


def _children(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def is_below(path: str, directories: Sequence[str]) -> bool:
    return any(path.startswith(directory.rstrip("/") + "/") for directory in directories)


def prefixes_of(environment: Path, covered: set[str]) -> Iterator[str]:
    """The environment, and every place its interpreter is linked from up to where it is installed."""
    program = str(environment.absolute() / "bin" / "python")
    found = [str(environment.absolute()), os.path.realpath(environment)]
    found.append(os.path.dirname(os.path.dirname(os.path.realpath(program))))
    for _ in range(40):  # as many links as the kernel follows
        if not os.path.islink(program):
            break
        program = os.path.normpath(os.path.join(os.path.dirname(program), os.readlink(program)))
        found.append(os.path.dirname(os.path.dirname(program)))
    try:
        for line in (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home":
                found.append(os.path.dirname(value.strip()))
    except OSError:
        pass  # not a venv: its interpreter is its own
    for prefix in dict.fromkeys(found):
        if any(home == prefix or is_below(home, [prefix]) for home in covered):
            # An interpreter installed right into a home directory must not bring that home along.
            yield from (
                f"{prefix}/{name}" for name in ("bin", "include", "lib", "lib64") if os.path.isdir(f"{prefix}/{name}")
            )
        else:
            yield prefix
