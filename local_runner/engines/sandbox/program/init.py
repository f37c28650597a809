"""The first process of a host of a sandboxed job (pid 1 of its namespace): starts the job, reaps, ends as it did."""

from __future__ import annotations

import ctypes
import os
import select

import seccomp
from filesystem import lay_out
from kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    SIGKILL,
    call,
    describe,
    libc,
    unshare,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is slow to import
    from typing import NoReturn

    from local_runner.engines.sandbox.view import Host

# Of processes and threads: the kernel counts those of the user in the job's user namespace (before Linux 5.14: all of
# the user's), and never holds the real root to it, for which there is a cgroup.
_RLIMIT_NPROC = 6
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_SIGNALS = 65
# What a Docker container keeps by default: chown, dac_override, fowner, fsetid, kill, setgid, setuid,
# setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
_CAPABILITIES = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))


def start_init(index: int, host: Host, group: int, gate: int, reports: int) -> NoReturn:
    """In a process of its own: make a pid namespace, and leave its first process to the launcher.

    ``group`` is the descriptor of the host's cgroup, or negative.
    """
    try:
        if group >= 0:
            os.write(group, b"0")  # this process, and all that it starts
            os.close(group)
        unshare(CLONE_NEWPID, "pid")
        init = os.fork()
        if not init:
            _init(index, host, gate, reports)
        os.write(reports, b"init %d %d\n" % (index, init))
    except Exception as error:
        _report_error(reports, index, error)
    finally:
        os._exit(0)


def _report_error(reports: int, index: int, error: Exception) -> None:
    os.write(reports, f"error {index} {describe(error)}\n".encode("utf-8", "surrogateescape"))


def _init(index: int, host: Host, gate: int, reports: int) -> NoReturn:
    """Process 1: lays out the file system, starts the job, reaps, and exits as the job did."""
    code = 125
    try:
        null = os.open("/dev/null", os.O_RDONLY)
        for source, number in ((null, 0), (host["log"], 1), (host["log"], 2)):
            os.dup2(source, number)
        processes = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC, "mount")
        call("set the host name", libc.sethostname(host["name"], len(host["name"])))
        lay_out(host)
        if not os.read(gate, 1):
            os._exit(code)
        call("follow the launcher", libc.prctl(_PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
        launcher = select.poll()
        launcher.register(gate, 0)
        if launcher.poll(0):  # it died before it could be followed
            os._exit(code)
        job = os.fork()
        if not job:
            _become_job(index, host, processes, reports)
        os.close(processes)
        pid, status = os.wait()
        while pid != job:
            pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        code = code if code >= 0 else 128 - code
    except Exception as error:
        _report_error(reports, index, error)
    finally:
        os._exit(code)


def _become_job(index: int, host: Host, processes: int, reports: int) -> NoReturn:
    code = 125
    try:
        # To the default, before anybody can send one: ignored signals outlive an exec, those that Python ignores and
        # those that what started the runner did (nohup, a shell's background).
        for number in range(1, _SIGNALS):
            libc.signal(number, None)
        # Its pid as the launcher sees it, to send signals to: the host's /proc still answers in the host's numbers.
        os.write(reports, b"job %d %s\n" % (index, os.fsencode(os.readlink("self", dir_fd=processes))))
        os.setsid()
        for resource, most in (*host["limits"], (_RLIMIT_NPROC, host["most_processes"])):
            _limit(resource, most)
        if host["processors"]:
            os.sched_setaffinity(0, host["processors"])
        for capability in range(64):
            if capability not in _CAPABILITIES and libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
                break
        os.chdir(host["working_directory"])
        try:
            seccomp.install()
        except OSError:  # a machine, or a kernel, without filters
            pass
        code = _exec(host["argv"], host["environment"])
    except Exception as error:
        _report_error(reports, index, error)
    finally:
        os._exit(code)


def _limit(resource: int, most: int) -> None:
    """Set a limit, soft and hard: to less where the runner has less."""
    limits = (ctypes.c_ulong * 2)()
    call("read a limit", libc.getrlimit(resource, limits))
    most = min(most, *limits)
    call("set a limit", libc.setrlimit(resource, (ctypes.c_ulong * 2)(most, most)))


def _exec(argv: list[bytes], environment: dict[bytes, bytes]) -> int:
    """Replace this process. Returns where that fails: 127 for a missing command, else 126."""
    program = argv[0]
    path = environment.get(b"PATH", b"")
    directories = [b""] if b"/" in program else [directory + b"/" for directory in path.split(b":")]
    code, reason = 127, "not found"
    for directory in directories:
        try:
            os.execve(directory + program, argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.exists(directory + program):
                reason = "its interpreter (first line of the file) was not found"
        except OSError as error:
            code, reason = 126, error.strerror
    where = "" if b"/" in program else f" on PATH ({os.fsdecode(path)})"
    message = f"sandbox: cannot run {os.fsdecode(program)!r}: {reason}{where}\n"
    os.write(2, message.encode("utf-8", "surrogateescape"))
    return code
