"""The file system that a host of a sandboxed job sees: its own root, the machine's system, the job's mounts."""

from __future__ import annotations

import os

import job_tree
from kernel import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    OLD,
    SetupError,
    call,
    libc,
    mount,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is slow to import
    from local_runner.engines.sandbox.view import Host, Mount

_MNT_DETACH = 2

# A remount must name the flags a mount already has; inside a user namespace the kernel refuses to drop them.
_KEPT_FLAGS = {
    b"nosuid": MS_NOSUID,
    b"nodev": MS_NODEV,
    b"noexec": MS_NOEXEC,
    b"noatime": 1024,
    b"nodiratime": 2048,
    b"relatime": 1 << 21,
    b"nosymfollow": 256,
}
_DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
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

# Of tmpfs, which would else take half of the machine's memory.
_ROOT_SIZE = b"size=256m,nr_inodes=100000"


def lay_out(host: Host) -> None:
    """Make the job's root and enter it. Targets are looked up in the new root, never in the host's."""
    mount(b"none", b"/", None, MS_REC | MS_PRIVATE)
    root = host["directory"] + b"/new"
    os.mkdir(root)
    mount(b"tmpfs", root, b"tmpfs", MS_NODEV, b"mode=755," + _ROOT_SIZE)
    os.chdir(root)
    os.mkdir(OLD[1:])
    call("enter the new root", libc.pivot_root(b".", OLD[1:]))
    os.chdir("/")
    for name in _DIRECTORIES:
        os.mkdir(name)
    for number, (target, mode) in enumerate(_ON_DISK):
        source = OLD + host["directory"] + b"/%d" % number
        os.mkdir(source)
        os.chmod(source, mode)
        mount(source, target, None, MS_BIND)
    os.mkdir("/var/tmp")
    os.chmod("/var/tmp", 0o1777)
    for source, link in host["links"]:
        os.symlink(source, link)
    _mount_system(host)
    _mount_devices(host["shm_size"])
    for each in host["mounts"]:
        _mount_job(each)
        if each["read_only"]:  # now, since a mount that comes later and lies below it may be writable
            _make_read_only([os.path.realpath(each["target"])])
    call("leave the old root", libc.umount2(OLD, _MNT_DETACH))
    os.rmdir(OLD)


def _mount_system(host: Host) -> None:
    """Mount /proc and what the job may read of the host: parents before children, all of it read-only."""
    protected = [target for _, target in host["read_only"]]
    try:
        mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except OSError:  # inside a container whose /proc is masked
        mount(OLD + b"/proc", b"/proc", None, MS_BIND | MS_REC)
        protected.append(b"/proc")
    else:
        for name in (b"/proc/sys", b"/proc/sysrq-trigger", b"/proc/irq", b"/proc/bus"):
            if os.path.exists(name):
                mount(name, name, None, MS_BIND)
                protected.append(name)
    steps = [(target, source) for source, target in host["read_only"]]
    steps += [(target, b"") for target in host["hidden"]]
    for target, source in sorted(steps, key=lambda step: step[0].count(b"/")):
        if source:
            _make_target(OLD + source, target)
            mount(OLD + source, target, None, MS_BIND | MS_REC)
        elif os.path.isdir(target):
            mount(b"tmpfs", target, b"tmpfs", MS_NOSUID | MS_NODEV, b"size=1m,mode=755")
    _make_read_only(protected)


def _make_target(source: bytes, target: bytes) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def _make_read_only(targets: list[bytes]) -> None:
    """Remount these and every mount below them: a bind cannot be recursive and read-only in one step."""
    with open(OLD + b"/proc/self/mountinfo", "rb") as mounts:
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
            mount(b"none", point, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)
        except OSError:
            if point in targets:
                raise


def _mount_devices(shm_size: int) -> None:
    for name in _DEVICES:
        source = OLD + b"/dev/" + name
        if os.path.exists(source):
            _make_target(source, b"/dev/" + name)
            mount(source, b"/dev/" + name, None, MS_BIND)
    links = ((b"fd", b""), (b"stdin", b"/0"), (b"stdout", b"/1"), (b"stderr", b"/2"))
    for name, descriptor in links:
        os.symlink(b"/proc/self/fd" + descriptor, b"/dev/" + name)
    mount(b"tmpfs", b"/dev/shm", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=1777,size=%d" % shm_size)
    try:
        options = b"newinstance,ptmxmode=0666,mode=620"
        mount(b"devpts", b"/dev/pts", b"devpts", MS_NOSUID | MS_NOEXEC, options)
        os.symlink(b"pts/ptmx", b"/dev/ptmx")
    except OSError:
        pass


def _mount_job(wanted: Mount) -> None:
    target = wanted["target"]
    if not wanted["scratch"]:
        _make_target(OLD + wanted["sources"][0], target)
        mount(OLD + wanted["sources"][0], target, None, MS_BIND | MS_REC)
        return
    os.makedirs(target, exist_ok=True)
    upper = OLD + wanted["scratch"] + b"/upper"
    work = OLD + wanted["scratch"] + b"/work"
    os.mkdir(upper)
    os.chmod(upper, job_tree.FOLDER_MODE)  # whatever the umask is
    if not wanted["sources"]:
        mount(upper, target, None, MS_BIND)
        return
    os.mkdir(work)
    layers = [OLD + source for source in wanted["sources"]]
    try:
        _mount_overlay(target, layers, upper, work)
    except SetupError as error:
        note = f"sandbox: no overlay for {os.fsdecode(target)} ({error.strerror}); the input was copied\n"
        os.write(1, note.encode("utf-8", "surrogateescape"))
        for layer in reversed(layers):
            _copy_tree(layer, upper)
        mount(upper, target, None, MS_BIND)


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
            mount(b"overlay", target, b"overlay", 0, options + b",volatile")
        except OSError:
            mount(b"overlay", target, b"overlay", 0, options)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _copy_tree(source: bytes, target: bytes) -> None:
    """Copy a layer over what lower layers left, sharing blocks where the file system can."""
    import fcntl  # only here, where speed does not matter any more
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
