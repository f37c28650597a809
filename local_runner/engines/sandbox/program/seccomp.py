"""The system calls that a job may not make, as in a container of its own, for hot jobs and in the sandbox.

The Docker engine chooses a container's filter by its capabilities. A hot worker has CAP_SYS_ADMIN, so its filter lets
through what that capability is for, and a job keeps it when the capability is gone: ``unshare -Urm`` needs none. This
is what the default profile of the engine (profiles/seccomp/default_linux.go, 20.10 to 29) refuses without the
capability, with the same errors; the kernel takes the strictest answer. In the sandbox there is no other filter. Of
what the profile refuses to every container, this has what reaches beyond the job (keys, userfaultfd), and not what a
job does to itself alone (personality, its own processes' memory, memory policy).

Standard library of any Python 3.8, as it runs on the image's, and nothing slow to import.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is slow to import
    _Step = tuple[int, int, int, int]

NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: what clone may not be asked for."""

# The same everywhere: open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr, quotactl_fd.
_NEW = (428, 429, 430, 431, 432, 433, 442, 443)
_CLONE3 = 435
# lsm_get_self_attr, lsm_set_self_attr, lsm_list_modules: of later profiles. An older engine has no such call.
_LSM, _LSM_LIST_MODULES = (459, 460, 461), 461

# machine: for its own programs and for 32-bit ones (AUDIT_ARCH, clone, and the numbers of: bpf, fanotify_init,
# lookup_dcookie, mount, perf_event_open, quotactl, setdomainname, sethostname, setns, syslog, umount2, unshare;
# add_key, request_key, keyctl, userfaultfd; and umount).
TABLES = {
    "x86_64": (
        (0xC000003E, 56, (321, 300, 212, 165, 298, 179, 171, 170, 308, 103, 166, 272, 248, 249, 250, 323)),
        (0x40000003, 120, (357, 338, 253, 21, 336, 131, 121, 74, 346, 103, 52, 310, 286, 287, 288, 374, 22)),
    ),
    "aarch64": (
        (0xC00000B7, 220, (280, 262, 18, 40, 241, 60, 162, 161, 268, 116, 39, 97, 217, 218, 219, 282)),
        (0x40000028, 120, (386, 367, 249, 21, 364, 131, 121, 74, 375, 103, 52, 337, 309, 310, 311, 388)),
    ),
}

_LOAD, _AND, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, of a little-endian machine
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NOT_X32 = 0xBFFFFFFF  # its calls have the numbers of x86_64 and this bit
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("value", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


def program(machine: str, of_lsm: int = errno.EPERM) -> list[_Step]:
    """The filter as (code, jump if true, jump if false, value). Raises OSError for a machine that has no table.

    ``of_lsm`` is the error of the calls that ask for security modules.
    """
    if machine not in TABLES:
        raise OSError(errno.ENOSYS, f"there is no filter of system calls for a machine of type {machine}")
    made: list[_Step] = []
    for architecture, clone, refused in TABLES[machine]:
        body = [(_LOAD, 0, 0, _NUMBER)]
        if machine == "x86_64":
            body.append((_AND, 0, 0, _NOT_X32))
        for number in refused + _NEW:
            body += _if_equal(number, [(_RETURN, 0, 0, _ERRNO | errno.EPERM)])
        for number in _LSM:
            body += _if_equal(number, [(_RETURN, 0, 0, _ERRNO | of_lsm)])
        body += _if_equal(_CLONE3, [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])  # a C library then takes clone
        asks = [(_LOAD, 0, 0, _FIRST_ARGUMENT), (_ANY_BIT, 0, 1, NEW_NAMESPACES), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
        body += _if_equal(clone, asks)
        made += [(_LOAD, 0, 0, _ARCHITECTURE), *_if_equal(architecture, [*body, (_RETURN, 0, 0, _ALLOW)])]
    return [*made, (_RETURN, 0, 0, _ALLOW)]


def _if_equal(value: int, body: list[_Step]) -> list[_Step]:
    return [(_EQUAL, 0, len(body), value), *body]


def install() -> None:
    """Refuse these calls to this thread and all that it starts, for good.

    To be called with CAP_SYS_ADMIN: without it the kernel wants no_new_privs, under which sudo and the like would not
    work as they do in a cold job. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    unknown = libc.syscall(_LSM_LIST_MODULES, None, None, ctypes.c_uint(1)) and ctypes.get_errno() == errno.ENOSYS
    filled = program(os.uname().machine, errno.ENOSYS if unknown else errno.EPERM)
    instructions = (_Instruction * len(filled))(*filled)
    given = ctypes.byref(_Program(len(filled), instructions))
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), given, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
