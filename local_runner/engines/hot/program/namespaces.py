"""What a hot job sees: a root, inputs and processes of its own. System calls only; runs inside the worker's container.

The caller is the forked process that becomes the job. Its root is an overlay upon the container's, so nothing that it
writes is there for the next job; inputs are overlays, so they can be written to and never change. The worker's own
mounts (the state directory among them) are gone from it, and so is the capability that made all this.

Standard library of any Python 3.8, as it runs on the image's.
"""

import ctypes
import os
import shutil
import stat

NEW_MOUNTS, NEW_IPC, NEW_PIDS = 0x00020000, 0x08000000, 0x20000000

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_MOVE, _MS_REC, _MS_PRIVATE = 4096, 8192, 16384, 1 << 18
_MS_STRICTATIME = 1 << 24
_MNT_DETACH = 2
_PR_CAPBSET_DROP, _CAP_SYS_ADMIN = 24, 21
_CAPABILITY_VERSION_3 = 0x20080522

# As the Docker engine does in every container.
_OF_THE_CONTAINER = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_HIDDEN = ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
           "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi")  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, "%s: %s" % (name, os.strerror(number)))


def unshare(flags):
    """Move this process (for NEW_PIDS its next child) into new namespaces."""
    _call("unshare", ctypes.c_int(flags))


def rejoin_pids(descriptor):
    """Let further children be born into the namespace of that descriptor again."""
    _call("setns", ctypes.c_int(descriptor), ctypes.c_int(NEW_PIDS))


def _mount(source, target, kind=None, flags=0, data=None):
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _call("mount", *encoded, ctypes.c_ulong(flags), None if data is None else os.fsencode(data))


def _bind(source, target, recursive=False):
    _mount(source, target, None, _MS_BIND | (_MS_REC if recursive else 0))


def _overlay(layers, target, scratch):
    upper, work = scratch + "/upper", scratch + "/work"
    os.mkdir(upper)
    os.mkdir(work)
    options = "lowerdir=%s,upperdir=%s,workdir=%s" % (":".join(map(_escaped, layers)), upper, work)
    _mount("overlay", target, "overlay", 0, options)
    return upper


def _escaped(path):
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def enter(scratch, mounts, own):
    """Give this process, the first of its PID namespace, the view of a job.

    ``scratch`` is an empty directory, ``mounts`` are {"target", "layers"} (an input) or {"target", "source"} in an
    order in which parents come first, ``own`` is the directory that holds the worker's mounts. Raises OSError.
    """
    unshare(NEW_MOUNTS | NEW_IPC)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    root = own + "/root"  # beside the scratch space, which goes out of sight before the root moves
    _overlay(["/"], root, _directory(scratch, "of-root"))
    _system(root, scratch)
    for number, mount in enumerate(mounts):
        target = root + mount["target"]
        os.makedirs(target, exist_ok=True)
        if "source" in mount:
            _bind(mount["source"], target)
        else:
            os.chmod(_overlay(mount["layers"], target, _directory(scratch, "of-input-%d" % number)), 0o755)
    os.chdir(root)
    _forget(root, own)
    _mount(".", "/", None, _MS_MOVE)
    os.chroot(".")


def _directory(parent, name):
    path = "%s/%s" % (parent, name)
    os.mkdir(path)
    return path


def _system(root, scratch):
    """/dev, /proc, /sys and the files of /etc that the engine made for the container."""
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _devices(root, flags)
    _bind("/sys", root + "/sys", recursive=True)
    _mount("proc", root + "/proc", "proc", flags)
    for path in _HIDDEN:
        if os.path.isdir(root + path):
            _mount("tmpfs", root + path, "tmpfs", _MS_RDONLY)
        elif os.path.exists(root + path):
            _bind("/dev/null", root + path)
    for path in _READ_ONLY:
        if os.path.exists(root + path):
            _bind(root + path, root + path, recursive=True)
            _mount(None, root + path, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | flags)
    for number, path in enumerate(_OF_THE_CONTAINER):
        if os.path.exists(path):
            copy = "%s/of-etc-%d" % (scratch, number)  # a job may write to it
            shutil.copyfile(path, copy)
            shutil.copymode(path, copy)
            _bind(copy, root + path)


def _devices(root, flags):
    """A /dev of the job's own, with what the container's has, so that no job finds there what another left."""
    of_container = os.statvfs("/dev")
    size = of_container.f_blocks * of_container.f_frsize
    _mount("tmpfs", root + "/dev", "tmpfs", _MS_NOSUID | _MS_STRICTATIME, "mode=755,size=%d" % size)
    for entry in os.scandir("/dev"):
        target, status = root + entry.path, entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(entry.path), target)
        elif stat.S_ISDIR(status.st_mode):
            os.mkdir(target)
        elif stat.S_ISCHR(status.st_mode):
            try:
                os.mknod(target, status.st_mode, status.st_rdev)
                os.chmod(target, stat.S_IMODE(status.st_mode))  # whatever the umask is
            except PermissionError:  # in an engine without root
                os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
                _bind(entry.path, target)
    shm = os.statvfs("/dev/shm")
    _mount("shm", root + "/dev/shm", "tmpfs", flags, "mode=1777,size=%d" % (shm.f_blocks * shm.f_frsize))
    if os.path.isdir("/dev/mqueue"):
        _mount("mqueue", root + "/dev/mqueue", "mqueue", flags)
    options = "newinstance,ptmxmode=0666,mode=0620,gid=5"
    _mount("devpts", root + "/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, options)


def _forget(root, own):
    """Take the worker's own mounts out of sight: out of the new root, and from under it."""
    for directory, folders, names in os.walk(root + own, topdown=False):
        for name in names:  # what a file was mounted on
            os.unlink("%s/%s" % (directory, name))
        for folder in folders:
            os.rmdir("%s/%s" % (directory, folder))
    os.rmdir(root + own)
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        targets = [line.split(" ")[1] for line in file]
    for target in reversed(targets):
        if target.startswith(own + "/") and target != root and not target.startswith(root + "/"):
            _libc.umount2(os.fsencode(target), _MNT_DETACH)


def drop_privilege():
    """Lose CAP_SYS_ADMIN for good: what is left are the capabilities that the engine gives any container."""
    _call("prctl", _PR_CAPBSET_DROP, ctypes.c_ulong(_CAP_SYS_ADMIN), 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of capabilities 0-31, then of 32-63
    _call("capget", header, data)
    for index in range(3):
        data[index] &= ~(1 << _CAP_SYS_ADMIN)
    _call("capset", header, data)
