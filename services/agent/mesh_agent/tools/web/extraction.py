"""The text of an HTML page. Runs as a program of its own: `python -I -m mesh_agent.tools.web.extraction`.

A process per page, because a parser of hostile input must be killable and must not see the agent's memory and
environment. A thread is not killable, and it holds the GIL: every stream of the replica would wait. The process reads
UTF-8 HTML from standard input and writes JSON with `title` and `text`.
"""

import json
import resource
import sys
from copy import deepcopy
from typing import Any, Final

# Of address space, of which a page of 2 MB uses a tenth. Both end the process if a page is made to exhaust them.
_MAX_MEMORY_BYTES: Final = 1_000_000_000
_MAX_CPU_S: Final = 20
# Above every plan's bound of a result.
_MAX_TITLE_CHARS: Final = 300
_MAX_TEXT_CHARS: Final = 200_000
_MAX_ELEMENTS: Final = 20_000
_BLOCKS: Final = ("p", "div", "section", "article", "h1", "h2", "h3", "h4", "li", "tr", "td", "br", "pre", "title")


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_MAX_CPU_S, _MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    html = sys.stdin.buffer.read().decode(errors="replace")
    sys.stdout.buffer.write(json.dumps(extracted(html, sys.argv[1] if len(sys.argv) > 1 else None)).encode())


def extracted(html: str, url: str | None) -> dict[str, Any]:
    # Imported here, so that nothing but this process pays for it: 41 MiB and 0.2 s.
    import trafilatura  # noqa: PLC0415
    from lxml.etree import ParserError  # noqa: PLC0415
    from lxml.html import HTMLParser, document_fromstring  # noqa: PLC0415

    try:
        tree = document_fromstring(html.encode(), parser=HTMLParser(encoding="utf-8"))
    except ParserError:
        # There is no element.
        return {"title": "", "text": ""}
    title = " ".join((tree.findtext(".//title") or "").split())
    for element in tree.xpath("//script | //style | //noscript | //template"):
        element.drop_tree()
    text = None
    if not _is_large(tree):
        # It removes what it does not use from the tree.
        text = trafilatura.extract(deepcopy(tree), url=url, output_format="markdown", include_links=True, fast=True)
    return {"title": title[:_MAX_TITLE_CHARS], "text": (text or _all_text(tree))[:_MAX_TEXT_CHARS]}


def _is_large(tree: Any) -> bool:
    """The time of the extraction grows faster than the page: it takes 12 s for 2 MB of text."""
    return len(tree.text_content()) > _MAX_TEXT_CHARS or sum(1 for _ in tree.iter()) > _MAX_ELEMENTS


def _all_text(tree: Any) -> str:
    """For large pages, and for pages without a main part, such as lists of links."""
    for element in tree.iter(*_BLOCKS):
        element.text, element.tail = f"\n{element.text or ''}", f"\n{element.tail or ''}"
    lines = (" ".join(line.split()) for line in tree.text_content().splitlines())
    return "\n".join(line for line in lines if line)


if __name__ == "__main__":
    main()
