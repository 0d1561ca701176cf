"""Finds the character encoding of a page and decodes it, as the WHATWG Encoding and HTML standards say."""

import codecs
import re
from collections.abc import Iterator
from typing import Final

# Labels by the decoder that browsers use for them. A closed list: Python's codecs include some that are no encodings
# of text (`rot13`, `unicode_escape`), and UTF-7, which the standard forbids.
_DECODERS: Final = {
    "utf-8": ("utf-8", "utf8", "unicode-1-1-utf-8"),
    "cp1252": ("windows-1252", "cp1252", "iso-8859-1", "iso8859-1", "latin1", "latin-1", "l1", "ascii", "us-ascii"),
    "cp1250": ("windows-1250", "cp1250"),
    "cp1251": ("windows-1251", "cp1251"),
    "cp1253": ("windows-1253", "cp1253"),
    "cp1254": ("windows-1254", "cp1254", "iso-8859-9", "latin5"),
    "cp1255": ("windows-1255", "cp1255"),
    "cp1256": ("windows-1256", "cp1256"),
    "cp1257": ("windows-1257", "cp1257"),
    "cp1258": ("windows-1258", "cp1258"),
    "cp874": ("windows-874", "tis-620", "iso-8859-11"),
    "cp866": ("ibm866", "cp866"),
    "iso8859-2": ("iso-8859-2", "latin2"),
    "iso8859-3": ("iso-8859-3",),
    "iso8859-4": ("iso-8859-4",),
    "iso8859-5": ("iso-8859-5",),
    "iso8859-6": ("iso-8859-6",),
    "iso8859-7": ("iso-8859-7",),
    "iso8859-8": ("iso-8859-8", "iso-8859-8-i"),
    "iso8859-10": ("iso-8859-10",),
    "iso8859-13": ("iso-8859-13",),
    "iso8859-14": ("iso-8859-14",),
    "iso8859-15": ("iso-8859-15", "latin9"),
    "iso8859-16": ("iso-8859-16",),
    "koi8-r": ("koi8-r", "koi8"),
    "koi8-u": ("koi8-u",),
    "mac-roman": ("macintosh",),
    "gb18030": ("gb18030", "gbk", "gb2312", "x-gbk"),
    "big5hkscs": ("big5", "big5-hkscs"),
    "euc-jp": ("euc-jp",),
    "iso2022-jp": ("iso-2022-jp",),
    "cp932": ("shift_jis", "shift-jis", "sjis", "windows-31j"),
    "cp949": ("euc-kr", "ks_c_5601-1987", "windows-949"),
    "utf-16-le": ("utf-16", "utf-16le"),
    "utf-16-be": ("utf-16be",),
}
_BY_LABEL: Final = {label: decoder for decoder, labels in _DECODERS.items() for label in labels}
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF16_LE, "utf-16-le"))
# HTML, section 13.2.3.2: the first 1024 bytes are searched.
_PRESCAN_BYTES: Final = 1_024
_COMMENT: Final = re.compile(rb"<!--.*?-->", re.DOTALL)
_META: Final = re.compile(rb"""(?i)<meta[^>]*?\bcharset\s*=\s*["']?\s*([a-z0-9_:-]+)""")
_DECLARATION: Final = re.compile(rb"""^\s*<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9_:-]+)["']""")


def decoded(body: bytes, charset: str | None, kind: str) -> str:
    """`charset` is the parameter of Content-Type; `kind` one of `html`, `xml`, `json` and `text`.

    A byte order mark wins over the header, and the header over the document. Undecodable bytes become U+FFFD.
    """
    for mark, decoder in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(decoder, errors="replace")
    # RFC 8259: JSON has no parameter `charset`, and is UTF-8.
    labels = iter(()) if kind == "json" else _labels(body, charset, kind)
    found = next((_BY_LABEL[label] for label in labels if label in _BY_LABEL), None)
    if found is not None:
        return body.decode(found, errors="replace")
    try:
        return body.decode()
    except UnicodeDecodeError:
        # Where nothing is declared, the standard's default for HTML; the other types are UTF-8 by their RFCs.
        return body.decode("cp1252" if kind == "html" else "utf-8", errors="replace")


def _labels(body: bytes, charset: str | None, kind: str) -> Iterator[str]:
    if charset:
        yield charset.strip("\"' \t").lower()
    head = body[:_PRESCAN_BYTES]
    declared = _DECLARATION.match(head) if kind in {"html", "xml"} else None
    meta = _META.search(_COMMENT.sub(b"", head)) if kind == "html" else None
    for found in (meta, declared):
        if found:
            label = found[1].decode("ascii").lower()
            # The document could be read so far: it cannot be UTF-16.
            yield "utf-8" if label.startswith("utf-16") else label
