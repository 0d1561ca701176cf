"""Renders spans as a tree for a terminal. Pure functions."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

type Status = Literal["unset", "ok", "error"]
type AttributeValue = str | bool | int | float

NS_PER_MS = 1_000_000
MS_PER_S = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One ended span. Ids are lower-case hex, times are nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_id: str | None
    """None for the root of a trace."""
    service: str
    name: str
    start_ns: int
    end_ns: int
    status: Status = "unset"
    status_message: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)

    @property
    def duration_ms(self) -> float:
        return (self.end_ns - self.start_ns) / NS_PER_MS


def render_tree(spans: Iterable[Span]) -> str:
    """One line per span, children below their parent, each level in order of start.

    A span whose parent is missing (not exported yet, or not stored) is not indented and is marked.
    """
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
    known = {span.span_id for span in ordered}
    children: dict[str, list[Span]] = {}
    for span in ordered:
        if span.parent_id is not None:
            children.setdefault(span.parent_id, []).append(span)
    roots = [span for span in ordered if span.parent_id not in known]
    return "\n".join(line for root in roots for line in _lines(root, children, "", ""))


def services_of(spans: Iterable[Span]) -> list[str]:
    """The services in the trace, in order of their first span."""
    return list(dict.fromkeys(span.service for span in sorted(spans, key=lambda span: span.start_ns)))


def _lines(span: Span, children: Mapping[str, list[Span]], lead: str, indent: str) -> Iterator[str]:
    yield lead + _describe(span, is_orphan=not lead and span.parent_id is not None)
    below = children.get(span.span_id, [])
    for child in below:
        is_last = child is below[-1]
        yield from _lines(
            child, children, indent + ("└─ " if is_last else "├─ "), indent + ("   " if is_last else "│  ")
        )


def _describe(span: Span, *, is_orphan: bool) -> str:
    words = [f"{span.service}: {span.name}", format_duration(span.duration_ms)]
    if span.status != "unset":
        words.append(span.status)
    if span.status_message:
        words.append(f"({span.status_message})")
    if is_orphan:
        words.append(f"[its parent {span.parent_id} is missing]")
    return "  ".join(words)


def format_duration(duration_ms: float) -> str:
    """Milliseconds below a second, seconds above."""
    return f"{duration_ms:.1f} ms" if duration_ms < MS_PER_S else f"{duration_ms / MS_PER_S:.2f} s"
