"""HTTP on 127.0.0.1: one thread for each connection, all of them ended with the server."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llmos.testing.request import Request
from llmos.testing.wire import Response


class LoopbackServer(ThreadingHTTPServer):
    """One thread for each connection; closing breaks the connections and waits for their threads."""

    request_queue_size = 64

    def __init__(
        self, answer: Callable[[Request], Response], stopping: threading.Event, errors: list[BaseException]
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.stopping = stopping
        self._errors = errors
        self._connections: list[tuple[socket.socket, threading.Thread]] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._connections = [(old, busy) for old, busy in self._connections if busy.is_alive()]
        self._connections.append((request, thread))
        thread.start()

    def server_close(self) -> None:
        super().server_close()
        for connection, _ in self._connections:
            _shut(connection)
        for _, thread in self._connections:
            thread.join(timeout=5.0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        raised = sys.exception()
        if raised is not None and not isinstance(raised, ConnectionError):
            self._errors.append(raised)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster


class _Handler(BaseHTTPRequestHandler):
    """HTTP around `LoopbackServer.answer`."""

    protocol_version = "HTTP/1.1"
    server: LoopbackServer

    def do_POST(self) -> None:
        request = self._receive()
        self._send(self.server.answer(request))

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: what came in is in `ScriptedServer.requests`."""

    def _receive(self) -> Request:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        return Request(
            method=self.command,
            path=self.path.partition("?")[0],
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body if isinstance(body, dict) else {},
            at=datetime.now(UTC),
        )

    def _send(self, response: Response) -> None:
        if self.server.stopping.wait(response.delay_s):
            self.close_connection = True
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.streamed:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self._send_chunks(response)
        else:
            body = b"".join(response.chunks)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if response.broken else body)
        if response.broken:
            self.close_connection = True

    def _send_chunks(self, response: Response) -> None:
        for chunk in response.chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if not response.broken:
            self.wfile.write(b"0\r\n\r\n")
