"""Calls of the Linux kernel that Python has no name for, by number.

Runs inside the sandbox before its walls stand: the standard library only.
Source: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
"""

from __future__ import annotations

import ctypes
import os

_X86_64: dict[str, int] = {
    "ptrace": 101, "clone": 56, "ioctl": 16, "socket": 41, "mount": 165, "umount2": 166,
    "pivot_root": 155, "chroot": 161, "swapon": 167, "swapoff": 168, "reboot": 169, "acct": 163, "quotactl": 179,
    "settimeofday": 164, "adjtimex": 159, "clock_settime": 227, "clock_adjtime": 305, "syslog": 103,
    "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246, "kexec_file_load": 320,
    "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "setns": 308, "process_vm_readv": 310,
    "process_vm_writev": 311, "kcmp": 312, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298,
    "open_by_handle_at": 304, "prctl": 157, "capset": 126, "seccomp": 317, "close_range": 436,
    "chmod": 90, "fchmodat": 268, "chown": 92, "lchown": 94, "fchownat": 260, "utime": 132, "utimes": 235,
    "futimesat": 261, "utimensat": 280, "setxattr": 188, "lsetxattr": 189, "removexattr": 197, "lremovexattr": 198,
}  # fmt: skip
_AARCH64: dict[str, int] = {
    "ptrace": 117, "clone": 220, "ioctl": 29, "socket": 198, "mount": 40, "umount2": 39,
    "pivot_root": 41, "chroot": 51, "swapon": 224, "swapoff": 225, "reboot": 142, "acct": 89, "quotactl": 60,
    "settimeofday": 170, "adjtimex": 171, "clock_settime": 112, "clock_adjtime": 266, "syslog": 116,
    "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104, "kexec_file_load": 294,
    "add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97, "setns": 268, "process_vm_readv": 270,
    "process_vm_writev": 271, "kcmp": 272, "bpf": 280, "userfaultfd": 282, "perf_event_open": 241,
    "open_by_handle_at": 265, "prctl": 167, "capset": 91, "seccomp": 277, "close_range": 436,
    "fchmodat": 53, "fchownat": 54, "utimensat": 88, "setxattr": 5, "lsetxattr": 6, "removexattr": 14,
    "lremovexattr": 15,
}  # fmt: skip
_BOTH: dict[str, int] = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "clone3": 435, "pidfd_getfd": 438,
    "mount_setattr": 442, "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
    "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "open_tree_attr": 467,
}  # fmt: skip
_ARCHITECTURES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 38, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class UnsupportedError(OSError):
    """This machine's kernel or processor lacks what a wall needs."""


def architecture() -> tuple[int, dict[str, int]]:
    """The processor's audit number, and the numbers of its system calls.

    Raises:
        UnsupportedError: neither x86_64 nor aarch64.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise UnsupportedError(f"the processor {machine} is not supported")
    audit, own = _ARCHITECTURES[machine]
    return audit, own | _BOTH


def call(name: str, *arguments: object) -> int:
    """Make a system call.

    Raises:
        OSError: it failed.
    """
    _, numbers = architecture()
    whole = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = _libc.syscall(ctypes.c_long(numbers[name]), *whole)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """Change the process itself; arguments left out are 0."""
    return call("prctl", option, *[*arguments, 0, 0, 0, 0][:4])


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount; the strings as in mount(2)."""
    texts = [ctypes.c_char_p(None if text is None else os.fsencode(text)) for text in (source, target, kind, data)]
    call("mount", *texts[:3], ctypes.c_ulong(flags), texts[3])


def drop_capabilities() -> None:
    """Give up every capability for good, those that a program run as uid 0 would get back included."""
    for number in range(_MAX_CAPABILITIES):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError:
            break
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
