"""The program that becomes the sandbox: makes namespaces and a file system, runs the job in them, reaps it.

Run by ``launch.py`` as ``python -I -S init.py``; imports nothing of the project but storage/job_tree.py, and
nothing that is slow to import (no json, signal or shutil), since a job waits for it.

    runner ── launcher ─┬─ init of algo-1 (pid 1 of its namespace) ── the job's process
                        └─ init of algo-2                          ── the job's process

The launcher stays in the host's mount and pid namespaces. It lives as long as its standard input: when the
runner dies, even by SIGKILL, the read ends, every init is killed, and the kernel ends whatever ran below it.

    stdin   8 bytes length, the specification (``sandbox_view.Specification``, by marshal), then commands:
            T for SIGTERM, K for SIGKILL
    stdout  at the end one line for each host: ``exit <index> <code>`` or ``error <index> <text>``
"""

from __future__ import annotations

import ctypes
import marshal
import os
import select
import sys

# A module of the runner's, which lies beside this program; ``-I`` leaves that directory out of the path.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import job_tree

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is slow to import
    from typing import NoReturn

    from local_runner.engines.sandbox.view import Host, Mount, Specification

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 1, 24, 36
_SIGKILL, _SIGPIPE, _SIGTERM, _SIGXFSZ = 9, 13, 15, 25
_SIOCSIFFLAGS, _IFF_UP, _AF_INET, _SOCK_DGRAM = 0x8914, 1, 2, 2

# A remount must name the flags a mount already has; inside a user namespace the kernel refuses to drop them.
_KEPT_FLAGS = {
    b"nosuid": _MS_NOSUID,
    b"nodev": _MS_NODEV,
    b"noexec": _MS_NOEXEC,
    b"noatime": 1024,
    b"nodiratime": 2048,
    b"relatime": 1 << 21,
    b"nosymfollow": 256,
}
# What a Docker container keeps by default: chown, dac_override, fowner, fsetid, kill, setgid, setuid,
# setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
_CAPABILITIES = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
_DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
_OLD = b"/.old"
_DIRECTORIES = [
    "proc",
    "dev",
    "dev/pts",
    "dev/shm",
    "run",
    "home",
    "mnt",
    "opt",
    "opt/ml",
    "root",
    "tmp",
    "var",
]
# The root itself is in memory, for speed; these are on disk, for room.
_ON_DISK = ((b"/tmp", 0o1777), (b"/var", 0o755), (b"/root", 0o700), (b"/opt/ml", 0o755))

# Of tmpfs, which would else take half of the machine's memory; /dev/shm is as large as Docker makes it.
_ROOT_SIZE, _SHM_SIZE = b"size=256m,nr_inodes=100000", b"size=64m"
# Of processes and threads, as the other engines' (MOST_PROCESSES, which a test compares). The kernel counts those of
# the user in the job's user namespace (before Linux 5.14: all of the user's), and never holds the real root to it.
_RLIMIT_NPROC, _MOST_PROCESSES = 6, 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.sethostname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


class _SetupError(OSError):
    """A system call that failed; ``filename`` is what it was to do, as in "cannot ..."."""


def _call(what: str, result: int) -> None:
    """Raise _SetupError where a C function, called just before, returned -1."""
    if result < 0:
        number = ctypes.get_errno()
        raise _SetupError(number, os.strerror(number), what)


def _unshare(flags: int, what: str) -> None:
    _call(f"make a new {what} namespace", _libc.unshare(flags))


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
    what = f"mount {os.fsdecode(kind or source.removeprefix(_OLD))} on {os.fsdecode(target)}"
    _call(what, _libc.mount(source, target, kind, flags, data))


# ---------------------------------------------------------------------------------------------- the launcher
def main() -> None:
    size = int.from_bytes(_read(8), "little")
    data = _read(size)
    if len(data) < size or not size:
        return  # the runner died before it had said what to run
    specification: Specification = marshal.loads(data)
    os.umask(0o022)
    count = len(specification["hosts"])
    errors: dict[int, str] = {}
    codes: dict[int, int] = {}
    try:
        for host in specification["hosts"]:
            os.set_inheritable(host["log"], False)
        _enter_user_namespace(specification["network_isolation"])
        _run_hosts(specification, errors, codes)
    except Exception as error:
        errors.update({index: _describe(error) for index in range(count) if index not in codes})
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


def _describe(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, _SetupError):
        text = f"cannot {error.filename}: {error.strerror}"
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename).removeprefix(os.fsdecode(_OLD))}: {error.strerror}"
    return text.replace("\n", "?")[:2000]


def _enter_user_namespace(network_isolation: bool) -> None:
    """Become root of a new user namespace. The real root may do without one where the kernel gives none."""
    network = _CLONE_NEWNET if network_isolation else 0
    uid, gid = os.geteuid(), os.getegid()
    mapper, ready = _start_mapper() if uid == 0 else (0, -1)
    try:
        _unshare(_CLONE_NEWUSER | network, "user")
    except OSError:
        if uid != 0:
            raise
        os.close(ready)
        os.waitpid(mapper, 0)
        if network:
            _unshare(network, "network")
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
        raise _SetupError(error.errno, error.strerror, f"write {path}") from None


def _raise_loopback() -> None:
    socket = _libc.socket(_AF_INET, _SOCK_DGRAM, 0)
    _call("open a socket", socket)
    request = b"lo".ljust(16, b"\0") + _IFF_UP.to_bytes(2, sys.byteorder) + bytes(22)
    _call("bring up the loopback interface", _libc.ioctl(socket, ctypes.c_ulong(_SIOCSIFFLAGS), request))
    os.close(socket)


def _run_hosts(specification: Specification, errors: dict[int, str], codes: dict[int, int]) -> None:
    """Start an init for each host and wait for the end of all of them, obeying the runner meanwhile."""
    _call("become the reaper of the inits", _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    events, told = os.pipe()
    gate, go = os.pipe()
    hosts = specification["hosts"]
    for index, host in enumerate(hosts):
        starter = os.fork()
        if not starter:
            os.close(go)
            _start_init(index, host, gate, told)
        os.waitpid(starter, 0)
    os.close(told)
    os.close(gate)
    for host in hosts:
        os.close(host["log"])
    try:
        os.write(go, b"g" * len(hosts))  # every init is the launcher's own child by now
    except BrokenPipeError:
        pass  # there is none: what they told says why
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
    terminate = kill = False
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(events, select.POLLIN)
    rest = b""
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == 0:
                commands = os.read(0, 64)
                if not commands:
                    poll.unregister(0)
                kill = kill or not commands or b"K" in commands
                terminate = terminate or b"T" in commands
                if kill:
                    _signal(inits, _SIGKILL)
                elif terminate:
                    _signal(jobs, _SIGTERM)
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
                        _signal(inits, _SIGKILL)
                else:
                    jobs[index] = int(value)
                    if terminate:
                        _signal({index: jobs[index]}, _SIGTERM)


def _signal(processes: dict[int, int], number: int) -> None:
    for pid in processes.values():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


# ------------------------------------------------------------------------------------------- one host's init
def _start_init(index: int, host: Host, gate: int, told: int) -> NoReturn:
    """In a process of its own: make a pid namespace, and leave its first process to the launcher."""
    try:
        _unshare(_CLONE_NEWPID, "pid")
        init = os.fork()
        if not init:
            _init(index, host, gate, told)
        os.write(told, b"init %d %d\n" % (index, init))
    except Exception as error:
        _tell_error(told, index, error)
    finally:
        os._exit(0)


def _tell_error(told: int, index: int, error: Exception) -> None:
    os.write(told, f"error {index} {_describe(error)}\n".encode("utf-8", "surrogateescape"))


def _init(index: int, host: Host, gate: int, told: int) -> NoReturn:
    """Process 1: lays out the file system, starts the job, reaps, and exits as the job did."""
    code = 125
    try:
        null = os.open("/dev/null", os.O_RDONLY)
        for source, number in ((null, 0), (host["log"], 1), (host["log"], 2)):
            os.dup2(source, number)
        processes = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        _unshare(_CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC, "mount")
        _call("set the host name", _libc.sethostname(host["name"], len(host["name"])))
        _lay_out(host)
        if not os.read(gate, 1):
            os._exit(code)
        _call("follow the launcher", _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0))
        launcher = select.poll()
        launcher.register(gate, 0)
        if launcher.poll(0):  # it died before it could be followed
            os._exit(code)
        job = os.fork()
        if not job:
            _become_job(index, host, processes, told)
        os.close(processes)
        pid, status = os.wait()
        while pid != job:
            pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        code = code if code >= 0 else 128 - code
    except Exception as error:
        _tell_error(told, index, error)
    finally:
        os._exit(code)


def _become_job(index: int, host: Host, processes: int, told: int) -> NoReturn:
    code = 125
    try:
        # Its pid as the launcher sees it, for SIGTERM: the host's /proc still answers in the host's numbers.
        os.write(told, b"job %d %s\n" % (index, os.fsencode(os.readlink("self", dir_fd=processes))))
        os.setsid()
        for number in (_SIGPIPE, _SIGXFSZ):  # which Python ignores, and ignored signals outlive an exec
            _libc.signal(number, None)
        _limit_processes()
        for capability in range(64):
            if capability not in _CAPABILITIES and _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
                break
        os.chdir(host["working_directory"])
        code = _exec(host["argv"], host["environment"])
    except Exception as error:
        _tell_error(told, index, error)
    finally:
        os._exit(code)


def _limit_processes() -> None:
    limits = (ctypes.c_ulong * 2)()
    _call("read the limit of processes", _libc.getrlimit(_RLIMIT_NPROC, limits))
    most = min(_MOST_PROCESSES, *limits)
    _call("limit the processes", _libc.setrlimit(_RLIMIT_NPROC, (ctypes.c_ulong * 2)(most, most)))


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


# ----------------------------------------------------------------------------------------------- file system
def _lay_out(host: Host) -> None:
    """Make the job's root and enter it. Targets are looked up in the new root, never in the host's."""
    _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE)
    root = host["directory"] + b"/new"
    os.mkdir(root)
    _mount(b"tmpfs", root, b"tmpfs", _MS_NODEV, b"mode=755," + _ROOT_SIZE)
    os.chdir(root)
    os.mkdir(_OLD[1:])
    _call("enter the new root", _libc.pivot_root(b".", _OLD[1:]))
    os.chdir("/")
    for name in _DIRECTORIES:
        os.mkdir(name)
    for number, (target, mode) in enumerate(_ON_DISK):
        source = _OLD + host["directory"] + b"/%d" % number
        os.mkdir(source)
        os.chmod(source, mode)
        _mount(source, target, None, _MS_BIND)
    os.mkdir("/var/tmp")
    os.chmod("/var/tmp", 0o1777)
    for source, link in host["links"]:
        os.symlink(source, link)
    _mount_system(host)
    _mount_devices()
    for mount in host["mounts"]:
        _mount_job(mount)
        if mount["read_only"]:  # now, since a mount that comes later and lies below it may be writable
            _make_read_only([os.path.realpath(mount["target"])])
    _call("leave the old root", _libc.umount2(_OLD, _MNT_DETACH))
    os.rmdir(_OLD)


def _mount_system(host: Host) -> None:
    """Mount /proc and what the job may read of the host: parents before children, all of it read-only."""
    protected = [target for _, target in host["read_only"]]
    try:
        _mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    except OSError:  # inside a container whose /proc is masked
        _mount(_OLD + b"/proc", b"/proc", None, _MS_BIND | _MS_REC)
        protected.append(b"/proc")
    else:
        for name in (b"/proc/sys", b"/proc/sysrq-trigger", b"/proc/irq", b"/proc/bus"):
            if os.path.exists(name):
                _mount(name, name, None, _MS_BIND)
                protected.append(name)
    steps = [(target, source) for source, target in host["read_only"]]
    steps += [(target, b"") for target in host["hidden"]]
    for target, source in sorted(steps, key=lambda step: step[0].count(b"/")):
        if source:
            _make_target(_OLD + source, target)
            _mount(_OLD + source, target, None, _MS_BIND | _MS_REC)
        elif os.path.isdir(target):
            _mount(b"tmpfs", target, b"tmpfs", _MS_NOSUID | _MS_NODEV, b"size=1m,mode=755")
    _make_read_only(protected)


def _make_target(source: bytes, target: bytes) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def _make_read_only(targets: list[bytes]) -> None:
    """Remount these and every mount below them: a bind cannot be recursive and read-only in one step."""
    with open(_OLD + b"/proc/self/mountinfo", "rb") as mounts:
        lines = [line.split(b" ", 6) for line in mounts]
    below = tuple(target + b"/" for target in targets)
    shown: dict[bytes, tuple[bytes, bytes]] = {}
    for number, parent, _, _, point, options, _ in lines:
        for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
            point = point.replace(code, character)
        if (point in targets or point.startswith(below)) and shown.get(point, (parent,))[0] == parent:
            shown[point] = (number, options)  # of two mounts on one point, the one on top
    for point, (_, options) in shown.items():
        kept = sum(_KEPT_FLAGS.get(option, 0) for option in options.split(b","))
        try:
            _mount(b"none", point, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)
        except OSError:
            if point in targets:
                raise


def _mount_devices() -> None:
    for name in _DEVICES:
        source = _OLD + b"/dev/" + name
        if os.path.exists(source):
            _make_target(source, b"/dev/" + name)
            _mount(source, b"/dev/" + name, None, _MS_BIND)
    links = ((b"fd", b""), (b"stdin", b"/0"), (b"stdout", b"/1"), (b"stderr", b"/2"))
    for name, descriptor in links:
        os.symlink(b"/proc/self/fd" + descriptor, b"/dev/" + name)
    _mount(b"tmpfs", b"/dev/shm", b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=1777," + _SHM_SIZE)
    try:
        options = b"newinstance,ptmxmode=0666,mode=620"
        _mount(b"devpts", b"/dev/pts", b"devpts", _MS_NOSUID | _MS_NOEXEC, options)
        os.symlink(b"pts/ptmx", b"/dev/ptmx")
    except OSError:
        pass


def _mount_job(mount: Mount) -> None:
    target = mount["target"]
    if not mount["scratch"]:
        _make_target(_OLD + mount["sources"][0], target)
        _mount(_OLD + mount["sources"][0], target, None, _MS_BIND | _MS_REC)
        return
    os.makedirs(target, exist_ok=True)
    upper = _OLD + mount["scratch"] + b"/upper"
    work = _OLD + mount["scratch"] + b"/work"
    os.mkdir(upper)
    if not mount["sources"]:
        _mount(upper, target, None, _MS_BIND)
        return
    os.mkdir(work)
    layers = [_OLD + source for source in mount["sources"]]
    try:
        _mount_overlay(target, layers, upper, work)
    except _SetupError as error:
        note = f"sandbox: no overlay for {os.fsdecode(target)} ({error.strerror}); the input was copied\n"
        os.write(1, note.encode("utf-8", "surrogateescape"))
        for layer in reversed(layers):
            _copy_tree(layer, upper)
        _mount(upper, target, None, _MS_BIND)


def _mount_overlay(target: bytes, layers: list[bytes], upper: bytes, work: bytes) -> None:
    """Mount by descriptors: no path needs escaping, and many long ones fit the kernel's one page."""
    descriptors: list[int] = []
    try:
        for path in (*layers, upper, work):
            descriptors.append(os.open(path, os.O_PATH | os.O_DIRECTORY))
        names = [b"/proc/self/fd/%d" % descriptor for descriptor in descriptors]
        options = b"lowerdir=%s,upperdir=%s,workdir=%s,userxattr" % (b":".join(names[:-2]), *names[-2:])
        try:
            # volatile: no sync of the whole file system at the end, for changes that are thrown away
            _mount(b"overlay", target, b"overlay", 0, options + b",volatile")
        except OSError:
            _mount(b"overlay", target, b"overlay", 0, options)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _copy_tree(source: bytes, target: bytes) -> None:
    """Copy a layer over what lower layers left, sharing blocks where the file system can."""
    import fcntl  # only here, where speed is lost already
    import shutil

    for entry in os.scandir(source):
        copy = os.path.join(target, entry.name)
        directory = entry.is_dir(follow_symlinks=False)
        if os.path.lexists(copy) and not (directory and os.path.isdir(copy) and not os.path.islink(copy)):
            job_tree.remove(copy)
        if directory:
            os.makedirs(copy, exist_ok=True)
            _copy_tree(entry.path, copy)
        elif entry.is_symlink():
            os.symlink(os.readlink(entry.path), copy)
        elif entry.is_file():
            with open(entry.path, "rb") as original, open(copy, "wb") as clone:
                try:
                    fcntl.ioctl(clone, 0x40049409, original.fileno())  # FICLONE
                except OSError:
                    shutil.copyfileobj(original, clone, 1 << 20)
        else:
            continue
        shutil.copystat(entry.path, copy, follow_symlinks=False)


# --------------------------------------------------------------------------------------------- afterwards
def _clear(specification: Specification) -> None:
    """Remove what the job's namespaces left behind. They are gone: nothing is mounted in these trees."""
    for path in specification["empty"]:
        job_tree.clear(path)
    for path in specification["remove"]:
        job_tree.remove(path)


if __name__ == "__main__":
    main()
    os._exit(0)  # without Python's own tidying up, which takes milliseconds
