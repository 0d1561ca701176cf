"""Which types of content a model can be given."""

import re
from email.message import Message
from typing import Final

from mesh_agent.tools.web.errors import FetchError, FetchOutcome

_KINDS: Final = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/json": "json",
    "text/json": "json",
    "application/xml": "xml",
    "text/xml": "xml",
    "text/plain": "text",
    "text/markdown": "text",
    "text/x-markdown": "text",
    "text/csv": "text",
    "application/yaml": "text",
}
_TYPE: Final = re.compile(r"^\s*[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+\s*(?:;|$)")
_UNKNOWN: Final = "application/octet-stream"
_SNIFFED_BYTES: Final = 512
_LOOKS_LIKE_HTML: Final = re.compile(
    rb"(?i)^\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body|title|h1|div|p)\b", re.DOTALL
)
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# A header is written by others too, and this text is not marked as theirs.
_SHOWABLE: Final = re.compile(r"^[a-z]{1,20}/[a-z0-9.+-]{1,60}$")
_PDF: Final = "PDF documents cannot be read. Look for the same content as a web page."


def kind_of(content_type: str, body: bytes) -> tuple[str, str | None]:
    """The kind (`html`, `json`, `xml` or `text`) and the charset that the header names.

    Raises FetchError for other types. Without a type, and for `application/octet-stream`, the first bytes decide
    (compare WHATWG MIME Sniffing).
    """
    header = Message()
    header["Content-Type"] = content_type if _TYPE.match(content_type) else _UNKNOWN
    name, charset = header.get_content_type(), header.get_content_charset()
    if name == "application/pdf" or body.startswith(b"%PDF-"):
        raise FetchError(FetchOutcome.REFUSED_TYPE, _PDF)
    kind = _KINDS.get(name) or _by_suffix(name) if name != _UNKNOWN else _sniffed(body)
    if kind is None:
        shown = f"Content of type {name}" if name != _UNKNOWN and _SHOWABLE.match(name) else "Content of this type"
        raise FetchError(FetchOutcome.REFUSED_TYPE, f"{shown} cannot be read, only text.")
    return kind, charset


def _by_suffix(name: str) -> str | None:
    return "json" if name.endswith("+json") else "xml" if name.endswith("+xml") else None


def _sniffed(body: bytes) -> str | None:
    head = body[:_SNIFFED_BYTES]
    if _LOOKS_LIKE_HTML.match(head):
        return "html"
    return None if _BINARY.search(head) else "text"
