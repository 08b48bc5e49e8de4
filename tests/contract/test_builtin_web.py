"""http_get and fetch_file against a real server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.contract.toolbox import Toolbox, toolbox

BODY = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/text":
                self.answer(200, "text/plain; charset=latin-1", "café".encode("latin-1"))
            case "/json":
                self.answer(200, "application/json", json.dumps({"items": [1, 2], "agent": self.agent}).encode())
            case "/bad.json":
                self.answer(200, "application/json", b"{oops")
            case "/bin":
                self.answer(200, "application/octet-stream", BODY)
            case "/untyped":
                self.answer(200, "", b"plain")
            case "/huge":
                self.answer(200, "text/plain", b"x" * 5_000_001)
            case "/to-text":
                self.redirect("/text")
            case "/to-file":
                self.redirect("file:///etc/passwd")
            case "/loop":
                self.redirect("/loop")
            case "/missing":
                self.answer(404, "text/html", b"<h1>no   such page</h1>")
            case "/cut":
                self.answer(200, "text/plain", b"half", length=100)
                self.close_connection = True
            case "/slow":
                time.sleep(1.0)
                self.answer(200, "text/plain", b"late")
            case "/dripping":
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(b"x" * 10)
                    time.sleep(0.05)

    @property
    def agent(self) -> str | None:
        return self.headers.get("User-Agent")

    def answer(self, status: int, content_type: str, body: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def box(tmp_path: Path) -> Toolbox:
    return toolbox(tmp_path)


async def test_a_page_is_fetched_as_text(box: Toolbox, server: str) -> None:
    assert await box.call("http_get", url=f"{server}/text") == {
        "url": f"{server}/text",
        "status": 200,
        "content_type": "text/plain; charset=latin-1",
        "text": "café",
        "json": None,
    }


async def test_an_api_answer_is_parsed(box: Toolbox, server: str) -> None:
    got = await box.call("http_get", url=f"{server}/json?q=1")
    assert got["json"] == {"items": [1, 2], "agent": "llmos"}
    assert json.loads(got["text"]) == got["json"]
    assert (await box.call("http_get", url=f"{server}/bad.json"))["json"] is None


async def test_redirects_are_followed(box: Toolbox, server: str) -> None:
    got = await box.call("http_get", url=f"{server}/to-text")
    assert (got["url"], got["text"]) == (f"{server}/text", "café")


@pytest.mark.parametrize("tool", ["http_get", "fetch_file"])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/missing", "/missing answered 404 Not Found: <h1>no such page</h1>"),
        ("/loop", "more than 10 redirects"),
        ("/to-file", "something else than http or https"),
        ("/cut", "the answer was cut"),
    ],
)
async def test_what_is_no_answer_is_an_error_and_leaves_no_file(
    box: Toolbox, server: str, tool: str, path: str, said: str
) -> None:
    target = {"target": "d/out"} if tool == "fetch_file" else {}
    assert said in await box.error(tool, url=f"{server}{path}", **target)
    assert list(box.workspace.iterdir()) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "sales.csv", "", "javascript:1"])
async def test_only_http_is_fetched(box: Toolbox, url: str) -> None:
    assert "no http or https URL" in await box.error("http_get", url=url)


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://a b/", "http://no.such.host.invalid/", "http://127.0.0.1:1/"]
)
async def test_an_address_nobody_answers_at_is_one_sentence(box: Toolbox, url: str) -> None:
    message = await box.error("http_get", url=url)
    assert "can't be fetched" in message
    assert "\n" not in message


async def test_a_slow_answer_is_given_up(box: Toolbox, server: str) -> None:
    assert "no answer within 0.2 s" in await box.error("http_get", url=f"{server}/slow", timeout=200)


async def test_what_is_no_text_belongs_in_a_file(box: Toolbox, server: str) -> None:
    assert "use fetch_file" in await box.error("http_get", url=f"{server}/bin")
    assert "larger than 5 MB" in await box.error("http_get", url=f"{server}/huge")
    assert (await box.call("http_get", url=f"{server}/untyped"))["text"] == "plain"


async def test_credentials_do_not_stand_in_messages(box: Toolbox) -> None:
    message = await box.error("http_get", url="http://ann:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in message


async def test_a_file_is_downloaded_whole(box: Toolbox, server: str) -> None:
    got = await box.call("fetch_file", url=f"{server}/bin", target="d/e.bin")
    assert (box.workspace / "d/e.bin").read_bytes() == BODY
    assert got == {
        "url": f"{server}/bin",
        "path": "d/e.bin",
        "bytes": len(BODY),
        "content_type": "application/octet-stream",
        "sha256": hashlib.sha256(BODY).hexdigest(),
        "text": f"Fetched 256 kB from {server}/bin to d/e.bin.",
    }
    assert box.names() == ["d/e.bin"]


async def test_a_failed_download_keeps_the_old_file(box: Toolbox, server: str) -> None:
    box.write("a.txt", "old")
    await box.error("fetch_file", url=f"{server}/cut", target="a.txt")
    assert (box.names(), (box.workspace / "a.txt").read_text()) == (["a.txt"], "old")


async def test_a_cancelled_download_leaves_nothing(box: Toolbox, server: str) -> None:
    task = asyncio.ensure_future(box.result("fetch_file", url=f"{server}/dripping", target="a.bin"))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert box.names() == []
