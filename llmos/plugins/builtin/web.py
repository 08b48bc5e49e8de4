"""The web: `http_get` and `fetch_file`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from llmos.errors import NotPermittedError, ToolError
from llmos.plugins.builtin.paths import size_text
from llmos.plugins.builtin.writing import replacing, writable_target
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.plugins.resources import in_thread
from llmos.plugins.tool import FileWrite
from llmos.trace.program import Effect

if TYPE_CHECKING:
    import httpx

MAX_TEXT_BYTES = 5_000_000
MAX_FILE_BYTES = 1_000_000_000
MAX_REDIRECTS = 10
TEXTUAL = ("text/", "application/json", "application/xml", "application/javascript", "application/x-ndjson")


@llm_tool(
    "http_get",
    "Fetch a web page or API answer (http, https; redirects followed). Gives status, content_type, text, and json when "
    "the answer is JSON. A status of 400 or more is an error. timeout is in milliseconds.",
    {"url": str, "timeout": {"type": "integer", "minimum": 1, "maximum": 600_000}},
    defaults={"timeout": 30_000},
    effect=Effect.READ,
    hosts=("url",),
    idempotent=True,
    open_world=True,
    version="1",
)
async def http_get(ctx: ToolContext, url: str, timeout: int) -> dict[str, Any]:  # noqa: ASYNC109 - the tool's argument
    async with answer(ctx, url, timeout / 1000) as response:
        content_type = response.headers.get("content-type", "")
        plain = content_type.split(";")[0].strip().lower()
        if plain and not plain.startswith(TEXTUAL) and not plain.endswith(("+json", "+xml")):
            raise ToolError(f"{url} is {plain}, not text; use fetch_file to store it.")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_TEXT_BYTES:
                raise ToolError(f"{url} is larger than {size_text(MAX_TEXT_BYTES)}; use fetch_file to store it.")
        return {
            "url": str(response.url),
            "status": response.status_code,
            "content_type": content_type,
            "text": _decoded(bytes(body), response.charset_encoding),
            "json": _json(bytes(body)) if plain == "application/json" or plain.endswith("+json") else None,
        }


def _decoded(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset or "utf-8", errors="replace")
    except LookupError:
        return body.decode("utf-8", errors="replace")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _fetched(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileWrite]:
    return [FileWrite(path=writable_target(ctx, arguments["target"]))]


@llm_tool(
    "fetch_file",
    "Download a URL (http, https; redirects followed) to a file, whole or not at all.",
    {"url": str, "target": str},
    effect=Effect.WRITE,
    paths=("target",),
    hosts={"url": Effect.READ},
    idempotent=True,
    open_world=True,
    writes=_fetched,
    version="1",
)
async def fetch_file(ctx: ToolContext, url: str, target: str) -> dict[str, Any]:
    place = writable_target(ctx, target)
    digest, size = hashlib.sha256(), 0
    async with answer(ctx, url, 60.0) as response:
        with replacing(ctx, place) as temporary, temporary.open("wb") as stream:
            async for chunk in response.aiter_bytes():
                size += len(chunk)
                if size > MAX_FILE_BYTES:
                    raise ToolError(f"{url} is larger than {size_text(MAX_FILE_BYTES)}.")
                digest.update(chunk)
                await in_thread(stream.write, chunk)
            stream.flush()
            await in_thread(os.fsync, stream.fileno())
        name = ctx.relative(place)
        return {
            "url": str(response.url),
            "path": name,
            "bytes": size,
            "content_type": response.headers.get("content-type", ""),
            "sha256": digest.hexdigest(),
            "text": f"Fetched {size_text(size)} from {response.url} to {name}.",
        }


@asynccontextmanager
async def answer(ctx: ToolContext, url: str, timeout_s: float) -> AsyncIterator[httpx.Response]:
    """A successful response whose body is still to be read.

    Raises:
        ToolError: no http(s) URL, no connection, too slow, too many redirects, a status of 400 or more, or an
            answer that was cut.
        NotPermittedError: it is redirected to a host that may not be read.
    """
    import httpx

    shown = _shown(url)

    async def check(request: httpx.Request) -> None:
        is_own = request.url.host == httpx.URL(url).host
        if not is_own and ctx.gate is not None and not ctx.gate.reaches(str(request.url)):
            raise NotPermittedError(f"{shown} is redirected to {request.url.host}, which a rule of llmos.yaml closes.")

    if not url.lower().startswith(("http://", "https://")):
        raise ToolError(f"{shown} is no http or https URL.")
    try:
        async with (
            httpx.AsyncClient(
                follow_redirects=True,
                max_redirects=MAX_REDIRECTS,
                timeout=timeout_s,
                event_hooks={"request": [check]},
            ) as client,
            client.stream("GET", url, headers={"User-Agent": "llmos"}) as response,
        ):
            if response.status_code >= 400:
                said = await _head(response)
                raise ToolError(f"{shown} answered {response.status_code} {response.reason_phrase}{said}")
            yield response
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
        raise ToolError(f"{shown} can't be fetched: {_reason(error, timeout_s)}.") from None


async def _head(response: httpx.Response, limit: int = 300) -> str:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit:
            break
    text = " ".join(body[:limit].decode("utf-8", errors="replace").split())
    return f": {text}" if text else "."


def _reason(error: Exception, timeout_s: float) -> str:
    import httpx

    reasons: tuple[tuple[type[Exception], Callable[[], str]], ...] = (
        (httpx.TimeoutException, lambda: f"no answer within {timeout_s:g} s"),
        (httpx.TooManyRedirects, lambda: f"more than {MAX_REDIRECTS} redirects"),
        (httpx.UnsupportedProtocol, lambda: "it was redirected to something else than http or https"),
        (httpx.RemoteProtocolError, lambda: f"the answer was cut or is no HTTP ({error})"),
        (httpx.ConnectError, lambda: f"no connection ({error})"),
    )
    for kind, say in reasons:
        if isinstance(error, kind):
            return say()
    return str(error) or type(error).__name__


def _shown(url: str) -> str:
    """A URL for a message: without its credentials and not endless."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    shown = f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
    return shown if len(shown) <= 200 else f"{shown[:200]}…"
