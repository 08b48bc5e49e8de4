"""A request of a thin client, as it comes over the socket: its fields, and the client's standard streams."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from llmos import caller
from llmos.resident.outlet import Outlet

MAX_BYTES = 16_000_000
_MANY = 16


class BadRequestError(Exception):
    """What came is no request of ours."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client wants done, and who it is."""

    kind: bytes
    package: str
    executable: str
    cwd: str
    umask: int
    encodings: tuple[str, str, str]
    prog_name: str
    args: list[str]
    environ: dict[str, str]

    @classmethod
    def of(cls, body: bytes) -> Request:
        """Read the fields.

        Raises:
            BadRequestError: they are not those of a request.
        """
        fields = body.split(b"\0")
        try:
            kind, *texts = fields[:9]
            package, executable, cwd, umask, *encodings, prog_name = (os.fsdecode(one) for one in texts)
            count = int(fields[9])
            first, second, third = encodings
            variables = [os.fsdecode(one).partition("=") for one in fields[10 + count :]]
            if len(fields) < 10 + count:
                raise BadRequestError
            return cls(
                kind=kind,
                package=package,
                executable=executable,
                cwd=cwd,
                umask=int(umask),
                encodings=(first, second, third),
                prog_name=prog_name,
                args=[os.fsdecode(one) for one in fields[10 : 10 + count]],
                environ={name: value for name, _, value in variables},
            )
        except (ValueError, IndexError) as error:
            raise BadRequestError from error


async def receive(connection: socket.socket) -> tuple[Request, list[int]]:
    """A whole request, and the descriptors that came with it, which are the receiver's to close.

    Raises:
        BadRequestError: it is none, or breaks off.
    """
    descriptors: list[int] = []
    try:
        body = await _whole(connection, descriptors)
        return Request.of(body), descriptors
    except BaseException:
        close(descriptors)
        raise


async def _whole(connection: socket.socket, descriptors: list[int]) -> bytes:
    received = bytearray()
    wanted = 4
    while len(received) < wanted:
        try:
            data, ancillary, _, _ = connection.recvmsg(65_536, socket.CMSG_SPACE(_MANY * 4))
        except BlockingIOError:
            await _readable(connection)
            continue
        except OSError as error:
            raise BadRequestError from error
        for level, kind, packed in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                passed = struct.unpack(f"{len(packed) // 4}i", packed[: len(packed) // 4 * 4])
                descriptors += passed
                for number in passed:
                    os.set_inheritable(number, False)  # no child of ours shall hold on to a client's streams
        if not data:
            raise BadRequestError
        received += data
        if wanted == 4 and len(received) >= 4:
            wanted = 4 + int.from_bytes(received[:4], "big")
            if wanted > MAX_BYTES:
                raise BadRequestError
    return bytes(received[4:wanted])


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection, tell)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def close(descriptors: list[int]) -> None:
    """Close descriptors nobody took."""
    for number in descriptors:
        os.close(number)


def caller_of(request: Request, descriptors: list[int], pid: int | None) -> caller.Caller:
    """The process behind a request; the descriptors become its streams.

    Raises:
        BadRequestError: there are not three of them, or an encoding is not known.
    """
    if len(descriptors) != 3:
        close(descriptors)
        raise BadRequestError
    outlet = Outlet()
    first, second, third = request.encodings
    try:
        stdin = open(descriptors[0], encoding=first, errors="surrogateescape")  # noqa: SIM115, PTH123
        stdout = outlet.stream(descriptors[1], second, "replace")
        stderr = outlet.stream(descriptors[2], third, "backslashreplace")
    except (LookupError, OSError) as error:
        close(descriptors)
        raise BadRequestError from error
    return caller.Caller(
        environ=request.environ,
        cwd=Path(request.cwd),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pid=pid,
        outlet=outlet,
    )
