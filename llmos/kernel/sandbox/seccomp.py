"""A seccomp filter: system calls that no tool needs and that lead out of a sandbox are refused.

Source: seccomp(2), Documentation/userspace-api/seccomp_filter.rst of Linux.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterator, Sequence

from llmos.kernel.sandbox import syscalls

REFUSED = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd"),  # other processes
    *("mount", "umount2", "pivot_root", "chroot", "setns", "open_by_handle_at", "mount_setattr", "open_tree_attr"),
    *("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("add_key", "request_key", "keyctl"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "syslog"),
    *("swapon", "swapoff", "acct", "quotactl", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
)
"""What io_uring does no filter sees; the kernel's keys know no namespace."""

METADATA = (
    *("chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "utime", "utimes", "futimesat"),
    *("setxattr", "lsetxattr", "removexattr", "lremovexattr", "setxattrat", "removexattrat"),
)
"""Changes of what a path points to that Landlock does not see; refused where there is no mount view."""

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_NAMESPACES = 0x7E020080
"""CLONE_NEWUSER, NEWNS, NEWPID, NEWNET, NEWIPC, NEWUTS, NEWCGROUP, NEWTIME."""

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32_BIT = 0x40000000
_SET_MODE_FILTER = 1


def program(families: Sequence[int], *, metadata: bool) -> bytes:
    """The filter as classic BPF: sockets only of these families; without `metadata` none of METADATA.

    32-bit programs find no system calls at all, since their numbers would mean other calls.
    """
    audit, numbers = syscalls.architecture()
    code = [
        *_statement(_LOAD, _ARCHITECTURE),
        *_unless(_EQUAL, audit, errno.ENOSYS),
        *_statement(_LOAD, _NUMBER),
        *_when(_AT_LEAST, _X32_BIT, errno.ENOSYS),
        *_when(_EQUAL, numbers["clone3"], errno.ENOSYS),  # its flags can't be seen; libc falls back to clone
    ]
    for name in (*REFUSED, *(() if metadata else METADATA)):
        if name in numbers:
            code += _when(_EQUAL, numbers[name], errno.EPERM)
    for name in ("unshare", "clone"):
        code += _argument(numbers[name], 0, list(_when(_ANY_BIT, _NAMESPACES, errno.EPERM)))
    ioctls = [*_when(_EQUAL, _TIOCSTI, errno.EPERM), *_when(_EQUAL, _TIOCLINUX, errno.EPERM)]
    code += _argument(numbers["ioctl"], 1, ioctls)
    if not metadata:  # of a descriptor it is fine
        zero = list(_unless(_EQUAL, 0, errno.EPERM))
        upper = [*_statement(_LOAD, _ARGUMENTS + 8 + 4), *zero]
        code += _argument(numbers["utimensat"], 1, [*zero, *upper])
    code += _argument(numbers["socket"], 0, list(_only(families)))
    return b"".join([*code, *_statement(_RETURN, _ALLOW)])


def install(families: Sequence[int], *, metadata: bool) -> None:
    """Put the filter on this process and all it starts."""
    code = program(families, metadata=metadata)
    instructions = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(instructions))
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.call("seccomp", _SET_MODE_FILTER, 0, ctypes.c_char_p(described))


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value & 0xFFFFFFFF)


def _statement(code: int, value: int) -> Iterator[bytes]:
    yield _instruction(code, value)


def _when(test: int, value: int, error: int) -> Iterator[bytes]:
    """Refuse if the test says yes."""
    yield _instruction(test, value, 0, 1)
    yield _instruction(_RETURN, _ERRNO | error)


def _unless(test: int, value: int, error: int) -> Iterator[bytes]:
    yield _instruction(test, value, 1, 0)
    yield _instruction(_RETURN, _ERRNO | error)


def _only(values: Sequence[int]) -> Iterator[bytes]:
    """Refuse what is none of these."""
    for index, value in enumerate(values):
        yield _instruction(_EQUAL, value, len(values) - index, 0)
    yield _instruction(_RETURN, _ERRNO | errno.EPERM)


def _argument(number: int, index: int, tests: list[bytes]) -> list[bytes]:
    """Tests of the lower half of one argument of one system call; the number is loaded again after them."""
    body = [
        *_statement(_LOAD, _ARGUMENTS + 8 * index),
        *tests,
        *_statement(_LOAD, _NUMBER),
    ]
    return [_instruction(_EQUAL, number, 0, len(body)), *body]
