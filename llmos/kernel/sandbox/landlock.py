"""Landlock: a process gives up for itself and its children what no rule grants.

Source: Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h of Linux.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Sequence

from llmos.kernel.sandbox import syscalls

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
_FIRST_ABI = (1 << 13) - 1
_NEWER_RIGHTS = {2: 1 << 13, 3: TRUNCATE, 5: IOCTL_DEV}
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_READ = EXECUTE | READ_FILE | READ_DIR
BIND_TCP, CONNECT_TCP = 1 << 0, 1 << 1
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1
NET_ABI, SCOPE_ABI = 4, 6
_VERSION_FLAG, _RULE_PATH_BENEATH = 1, 1


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def abi() -> int:
    """The version of Landlock that the kernel speaks; 0: none, or switched off."""
    try:
        return syscalls.call("landlock_create_ruleset", None, 0, _VERSION_FLAG)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, None):
            return 0
        raise


def scope() -> None:
    """Keep signals and abstract Unix sockets within; needs SCOPE_ABI."""
    _restrict(_ruleset(0, 0, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL))


def restrict(*, read: Sequence[str], write: Sequence[str], devices: Sequence[str], network: bool) -> None:
    """Leave only these paths, and without `network` no TCP: as much of it as the kernel's version knows.

    `read` also allows running what is there; `devices` are files that may be read and written.
    """
    version = abi()
    rights = _FIRST_ABI
    for since, right in _NEWER_RIGHTS.items():
        rights |= right if version >= since else 0
    net = BIND_TCP | CONNECT_TCP if version >= NET_ABI and not network else 0
    scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if version >= SCOPE_ABI else 0
    ruleset = _ruleset(rights, net, scoped)
    for paths, allowed in ((read, _READ), (devices, READ_FILE | WRITE_FILE), (write, rights & ~IOCTL_DEV)):
        for path in paths:
            _allow(ruleset, path, allowed)
    _restrict(ruleset)


def _ruleset(fs: int, net: int, scoped: int) -> int:
    attributes = _Ruleset(fs, net, scoped)
    size = ctypes.sizeof(attributes) if scoped else 16 if net else 8  # an older kernel refuses what it does not know
    return syscalls.call("landlock_create_ruleset", ctypes.byref(attributes), size, 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        there = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there, or can't be reached, needs no rule
    try:
        if not stat.S_ISDIR(os.fstat(there).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneath(rights, there)
        syscalls.call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(there)


def _restrict(ruleset: int) -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)
