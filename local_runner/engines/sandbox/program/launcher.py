"""The program that becomes the sandbox: makes namespaces and a file system, runs the job in them, reaps it.

Run by ``sandbox/launch.py`` as ``python -I -S launcher.py``. Of the project it imports the modules beside it and
storage/job_tree.py, and nothing that is slow to import (no json, signal or shutil), since a job waits for it.

    runner ── launcher ─┬─ init of algo-1 (pid 1 of its namespace) ── the job's process
                        └─ init of algo-2                          ── the job's process

The launcher stays in the host's mount and pid namespaces. It lives as long as its standard input: when the
runner dies, even by SIGKILL, the read ends, every init is killed, and the kernel ends whatever ran below it.

    stdin   8 bytes length, the specification (``sandbox.view.Specification``, by marshal), then bytes that are the
            numbers of signals: the jobs get it, and at SIGKILL everything does
    stdout  at the end one line for each host: ``exit <index> <code>`` or ``error <index> <text>``
"""

from __future__ import annotations

import ctypes
import marshal
import os
import select
import sys

# The other modules of this program lie beside it; ``-I`` leaves that directory out of the path.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import job_tree
from init import start_init
from kernel import CLONE_NEWNET, CLONE_NEWUSER, SIGKILL, SetupError, call, describe, libc, unshare
from processes import NO_GROUP, make_group, remove_group

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is slow to import
    from local_runner.engines.sandbox.view import Specification

_PR_SET_CHILD_SUBREAPER = 36
_SIOCSIFFLAGS, _IFF_UP, _AF_INET, _SOCK_DGRAM = 0x8914, 1, 2, 2


def main() -> None:
    size = int.from_bytes(_read(8), "little")
    data = _read(size)
    if len(data) < size or not size:
        return  # the runner died before it had sent what to run
    specification: Specification = marshal.loads(data)
    os.umask(0o022)
    count = len(specification["hosts"])
    errors: dict[int, str] = {}
    codes: dict[int, int] = {}
    groups: list[tuple[bytes, int]] = []
    try:
        for host in specification["hosts"]:
            os.set_inheritable(host["log"], False)
        for index, host in enumerate(specification["hosts"]):
            groups.append(NO_GROUP if os.geteuid() else make_group(index, host["most_processes"]))
        _enter_user_namespace(specification["network_isolation"])
        _run_hosts(specification, [entry for _, entry in groups], errors, codes)
    except Exception as error:
        errors.update({index: describe(error) for index in range(count) if index not in codes})
    for group, _ in groups:
        remove_group(group)
    lines = [
        f"error {index} {errors[index]}" if index in errors else f"exit {index} {codes[index]}"
        for index in range(count)
    ]
    report = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    if specification["hold"]:
        try:
            os.write(1, report)
        except BrokenPipeError:
            pass  # the runner has died, and the next read says so
        while os.read(0, 64):  # until the runner has taken what it wants
            pass
    _clear(specification)
    if not specification["hold"]:
        os.write(1, report)


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := os.read(0, size - len(data))):
        data += chunk
    return data


def _enter_user_namespace(network_isolation: bool) -> None:
    """Become root of a new user namespace. The real root may do without one where the kernel gives none."""
    network = CLONE_NEWNET if network_isolation else 0
    uid, gid = os.geteuid(), os.getegid()
    mapper, ready = _start_mapper() if uid == 0 else (0, -1)
    try:
        unshare(CLONE_NEWUSER | network, "user")
    except OSError:
        if uid != 0:
            raise
        os.close(ready)
        os.waitpid(mapper, 0)
        if network:
            unshare(network, "network")
    else:
        mapped = False
        if mapper:
            os.write(ready, b"g")
            os.close(ready)
            mapped = os.waitpid(mapper, 0)[1] == 0
        if not mapped:
            for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
                _write_map("/proc/self/" + name, text)
    if network:
        _raise_loopback()


def _start_mapper() -> tuple[int, int]:
    """Fork a process that gives root's namespace every user and group there is, as Docker does.

    Only one that stays outside may write such a map. Returns its pid and the pipe that tells it to go ahead.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(reading)
        return child, writing
    code = 1
    try:
        os.close(writing)
        if os.read(reading, 1):
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/self/{name}", "rb") as own:
                    extents = [line.split() for line in own]
                text = b"".join(b"%s %s %s\n" % (inside, inside, size) for inside, _, size in extents)
                _write_map(f"/proc/{os.getppid()}/{name}", text.decode())
        code = 0
    finally:
        os._exit(code)


def _write_map(path: str, text: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
    except OSError as error:
        raise SetupError(error.errno, error.strerror, f"write {path}") from None


def _raise_loopback() -> None:
    socket = libc.socket(_AF_INET, _SOCK_DGRAM, 0)
    call("open a socket", socket)
    request = b"lo".ljust(16, b"\0") + _IFF_UP.to_bytes(2, sys.byteorder) + bytes(22)
    call("bring up the loopback interface", libc.ioctl(socket, ctypes.c_ulong(_SIOCSIFFLAGS), request))
    os.close(socket)


def _run_hosts(specification: Specification, entries: list[int], errors: dict[int, str], codes: dict[int, int]) -> None:
    """Start an init for each host and wait for the end of all of them, obeying the runner meanwhile."""
    call("become the reaper of the inits", libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    events, reports = os.pipe()
    gate, go = os.pipe()
    hosts = specification["hosts"]
    for index, host in enumerate(hosts):
        starter = os.fork()
        if not starter:
            os.close(go)
            start_init(index, host, entries[index], gate, reports)
        os.waitpid(starter, 0)
    os.close(reports)
    os.close(gate)
    for host in hosts:
        os.close(host["log"])
    try:
        os.write(go, b"g" * len(hosts))  # every init is the launcher's own child by now
    except BrokenPipeError:
        pass  # there is none: what they reported says why
    inits = _watch(events, errors)
    for index, pid in inits.items():
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        codes[index] = code if code >= 0 else 128 - code
    for index in range(len(hosts)):
        if index not in codes:
            errors.setdefault(index, "cannot start its first process")


def _watch(events: int, errors: dict[int, str]) -> dict[int, int]:
    """Obey the runner until the last init is gone; returns the inits' pids, which they tell themselves."""
    inits: dict[int, int] = {}
    jobs: dict[int, int] = {}
    kill, signal = False, 0
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(events, select.POLLIN)
    rest = b""
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == 0:
                numbers = os.read(0, 64)
                if not numbers:
                    poll.unregister(0)
                kill = kill or not numbers or SIGKILL in numbers
                if kill:
                    _signal(inits, SIGKILL)
                else:
                    signal = numbers[-1]
                    _signal(jobs, signal)
                continue
            chunk = os.read(events, 65536)
            if not chunk:
                return inits
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                what, number, value = line.split(b" ", 2)
                index = int(number)
                if what == b"error":
                    errors.setdefault(index, value.decode("utf-8", "surrogateescape"))
                elif what == b"init":
                    inits[index] = int(value)
                    if kill:
                        _signal(inits, SIGKILL)
                else:
                    jobs[index] = int(value)
                    if signal:
                        _signal({index: jobs[index]}, signal)


def _signal(processes: dict[int, int], number: int) -> None:
    for pid in processes.values():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _clear(specification: Specification) -> None:
    """Remove what the job's namespaces left behind. They are gone: nothing is mounted in these trees."""
    for path in specification["empty"]:
        job_tree.clear(path)
    for path in specification["remove"]:
        job_tree.remove(path)


if __name__ == "__main__":
    main()
    os._exit(0)  # without Python's own tidying up, which takes milliseconds
