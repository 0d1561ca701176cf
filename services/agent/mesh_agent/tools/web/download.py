"""Downloads one page: bounded in size, follows redirects itself, and checks each address anew."""

import zlib
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from mesh_agent.tools.web.dialing import Dialer
from mesh_agent.tools.web.errors import FetchError, FetchOutcome, refused_address, unreachable
from mesh_agent.tools.web.urls import checked_url

_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_FIRST_ERROR: Final = 300
_HEADERS: Final = {
    "User-Agent": "AgentMesh/1 (fetch_url)",
    "Accept": "text/html, text/markdown, text/plain;q=0.9, application/json;q=0.9, application/xml;q=0.8, */*;q=0.1",
    "Accept-Encoding": "gzip, deflate",
}
# 32 + 15: zlib recognizes gzip and zlib by their headers.
_GZIP_OR_ZLIB: Final = 47


@dataclass(frozen=True, slots=True)
class Download:
    url: URL
    content_type: str
    """The header as sent; empty if there is none."""
    body: bytes


async def download(text: str, dialer: Dialer, max_bytes: int) -> Download:
    """Raises FetchError. The caller bounds the time."""
    url = checked_url(text, dialer.places.ports)
    for _ in range(_MAX_REDIRECTS + 1):
        found = await _requested(url, dialer, max_bytes)
        if isinstance(found, Download):
            return found
        url = checked_url(found, dialer.places.ports)
    raise FetchError(FetchOutcome.TOO_MANY_REDIRECTS, f"The page redirects more than {_MAX_REDIRECTS} times.")


async def _requested(url: URL, dialer: Dialer, max_bytes: int) -> Download | str:
    """The page, or the URL to which it redirects."""
    async with dialer.session(url.host or "") as (session, sockets):
        try:
            async with session.get(url, headers=_HEADERS, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status in _REDIRECTS and location is not None:
                    return _joined(url, location)
                if response.status >= _FIRST_ERROR:
                    text = f"The server answered with status {response.status}."
                    raise FetchError(FetchOutcome.HTTP_ERROR, text)
                body = await _body(response, max_bytes)
                return Download(url, response.headers.get("Content-Type", ""), body)
        except aiohttp.ClientConnectorError as error:
            raise (refused_address() if sockets.has_refused else unreachable()) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise unreachable() from error


def _joined(url: URL, location: str) -> str:
    """The target of a redirect as text, to be read again as strictly as the first URL."""
    if "\\" in location or "://" in location or location.startswith("//"):
        return f"{url.scheme}:{location}" if location.startswith("//") else location
    try:
        return str(url.join(URL(location)))
    except ValueError as error:
        raise FetchError(FetchOutcome.REFUSED_URL, "The page redirects to a URL that cannot be read.") from error


async def _body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The decompressed body. Both it and the bytes sent are bounded, so a decompression bomb costs `max_bytes`."""
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > max_bytes:
            raise _too_large(max_bytes)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in {"identity", ""}:
        return bytes(raw)
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise FetchError(FetchOutcome.UNREADABLE, "The page is compressed in a way that was not asked for.")
    return _decompressed(bytes(raw), max_bytes)


def _decompressed(raw: bytes, max_bytes: int) -> bytes:
    for window in (_GZIP_OR_ZLIB, -zlib.MAX_WBITS):  # Some servers send `deflate` without the header of zlib.
        decoder = zlib.decompressobj(window)
        try:
            body = decoder.decompress(raw, max_bytes + 1)
        except zlib.error:
            continue
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if decoder.eof:
            return body
    raise FetchError(FetchOutcome.UNREADABLE, "The page's compression is damaged.")


def _too_large(max_bytes: int) -> FetchError:
    return FetchError(FetchOutcome.TOO_LARGE, f"The page is larger than {max_bytes // 1_000} kB.")
