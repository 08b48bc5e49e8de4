"""The thin client: it hands a command line with its streams to the resident kernel, and waits for the exit code.

Only what a Python process has loaded anyway is used here, for importing `socket` alone costs more than a whole hit.

A request is its length (4 bytes, big-endian) and its fields with NUL between them, see `request`; the three standard
streams go with its first byte. The kernel answers GOES_ON, then EXIT and the code; or GONE, which means that it ends
and another has to be started. Meanwhile the client sends the signals it gets, one byte each.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

try:
    import _socket
except ImportError:  # an interpreter without sockets has no kernel
    pass

GOES_ON, EXIT, GONE = b"A", b"X", b"G"
GOAL, DOWN, STATUS = b"goal", b"down", b"status"
INTERRUPT, TERMINATE, HANG_UP = b"I", b"T", b"H"

SOCKET = "kernel.sock"
VALUED = ("--home", "--workspace", "--plugins", "--budget", "--model", "--mode", "--as", "--audit-rate")
"""The shared options that take a value."""

LOCAL = ("doctor", "repair", "up", "down", "status", "help")
"""Commands that are done in a process of their own."""

LOST = 1
INTERRUPTED = 130
_LONGEST_PATH = 100
_NO = ("0", "false", "no", "off")
PACKAGE = os.path.dirname(os.path.abspath(__file__))


class NoKernelError(Exception):
    """Nobody answers, or whoever does is about to end."""


def is_for_kernel(args: list[str], environ: "os._Environ[str]") -> bool:
    """Whether a command line is one that a resident kernel could do."""
    head = args[: args.index("--")] if "--" in args else args
    if not args or environ.get("LLMOS_DAEMON", "").lower() in _NO or "--no-daemon" in head:
        return False
    if asks_for_help(args):
        return False
    try:
        os.getcwd()
    except OSError:  # the folder is gone, which is told where the command is done
        return False
    return first_word(args) not in LOCAL


def asks_for_help(args: list[str]) -> bool:
    """Whether a command line is answered by telling what there is."""
    head = args[: args.index("--")] if "--" in args else args
    return head == ["help"] or any(word in ("-h", "--help", "--version") for word in head)


def first_word(args: list[str]) -> str:
    """The first word that is no option and no option's value."""
    words = iter(args)
    for word in words:
        if word in VALUED:
            next(words, None)
        elif word == "-" or not word.startswith("-"):
            return word
        elif word == "--":
            break
    return ""


def home_of(args: list[str]) -> str | None:
    """The `--home` of a command line that is not parsed yet; of several the last one."""
    home = None
    words = iter(args)
    for word in words:
        if word == "--":
            break
        if word == "--home":
            home = next(words, None)
        elif word.startswith("--home="):
            home = word[len("--home=") :]
        elif word in VALUED:
            next(words, None)
    return home


def memory_of(args: list[str], environ: "os._Environ[str]") -> str | None:
    """The folder of the memory that a command line works on; None where only the settings can tell.

    As `llmos.settings.places.find_home`, in short.
    """
    home = home_of(args) or environ.get("LLMOS_HOME") or None
    checkout = os.path.dirname(PACKAGE)
    if home is None and os.path.isfile(os.path.join(checkout, "boot.py")):
        home = os.path.join(os.path.realpath(checkout), "workspace")
    if home is None and sys.platform == "linux":
        data = environ.get("XDG_DATA_HOME", "").strip() or os.path.join(os.path.expanduser("~"), ".local", "share")
        home = os.path.join(data, "llmos")
    return None if home is None else os.path.join(os.path.abspath(os.path.expanduser(home)), "memory")


def address(memory: str) -> tuple[str, int | None]:
    """The socket's address, and the folder's descriptor it leads through where the path is too long for an address."""
    path = os.path.join(memory, SOCKET)
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path, None
    folder = os.open(memory, os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{folder}/{SOCKET}", folder


def connect(memory: str) -> "_socket.socket":
    """A connection to the kernel of a memory.

    Raises:
        NoKernelError: there is none, or it is somebody else's.
    """
    folder = None
    try:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        path, folder = address(memory)
        connection.connect(path)
        if hasattr(_socket, "SO_PEERCRED"):
            peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
            if int.from_bytes(peer[4:8], sys.byteorder) != os.geteuid():
                raise NoKernelError
        return connection
    except (OSError, AttributeError, NameError, ValueError) as error:
        raise NoKernelError from error
    finally:
        if folder is not None:
            os.close(folder)


def _streams() -> "list[TextIO | None]":
    return [getattr(sys, name) for name in ("stdin", "stdout", "stderr")]


def request(kind: bytes, args: list[str], prog_name: str) -> bytes:
    """The fields of a request: what is wanted, who asks, and the command line with its environment."""
    mask = os.umask(0o077)
    os.umask(mask)
    fields: list[str | bytes] = [kind, PACKAGE, sys.executable, os.getcwd(), str(mask)]
    fields += [getattr(stream, "encoding", None) or "utf-8" for stream in _streams()]
    fields += [prog_name, str(len(args)), *args]
    packed = [field if isinstance(field, bytes) else os.fsencode(field) for field in fields]
    packed += [name + b"=" + value for name, value in os.environb.items()]
    return b"\0".join(packed)


def send(connection: "_socket.socket", body: bytes, streams: bool = True) -> None:
    """Send a request, and with it the standard streams."""
    packed = len(body).to_bytes(4, "big") + body
    passed = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2)) if streams else b""
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)] if passed else []
    sent = connection.sendmsg([packed], ancillary)
    if sent < len(packed):  # to send nothing fails once whoever is answered quickly has hung up
        connection.sendall(packed[sent:])


def ask(args: list[str], memory: str, prog_name: str) -> int:
    """Have a command line done by the kernel of a memory; its exit code.

    Raises:
        NoKernelError: nothing was begun, so that somebody else may do it.
    """
    _fill_streams()
    connection = connect(memory)
    try:
        send(connection, request(GOAL, args, prog_name))
        answer = connection.recv(1)
    except (OSError, ValueError) as error:
        raise NoKernelError from error
    except KeyboardInterrupt:
        return INTERRUPTED
    if answer != GOES_ON:
        raise NoKernelError
    return _wait(connection)


def _fill_streams() -> None:
    """Put nothing in the place of a standard stream that is closed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _wait(connection: "_socket.socket") -> int:
    """Wait for the exit code; signals are passed on, and a third Ctrl-C leaves at once."""
    import _signal  # type: ignore[import-not-found]

    pressed = 0

    def passed_on(number: int, frame: object) -> None:
        nonlocal pressed
        kind = {_signal.SIGINT: INTERRUPT, _signal.SIGTERM: TERMINATE}.get(number, HANG_UP)
        pressed += kind == INTERRUPT
        if pressed > 2:
            os._exit(INTERRUPTED)
        try:
            connection.send(kind)
        except OSError:
            pass

    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) != _signal.SIG_IGN:  # as nohup and background jobs have it
            _signal.signal(number, passed_on)
    answer = b""
    while len(answer) < 2:
        try:
            more = connection.recv(2 - len(answer))
        except OSError:
            more = b""
        if not more:
            os.write(
                2,
                b"llmos: the resident kernel ended in the middle of this; `runs list` shows what is known of it, and "
                b"nothing is done twice\n",
            )
            return LOST
        answer += more
    return answer[1]
