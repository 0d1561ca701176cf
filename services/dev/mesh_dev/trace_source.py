"""Queries the stack's OTLP receiver for traces. `make trace` prints one."""

import re
from collections.abc import Iterable
from typing import Any, Final

import httpx

from mesh_dev.console import say
from mesh_dev.errors import DevError
from mesh_dev.ports import PortPlan
from mesh_dev.settings import DevSettings
from mesh_dev.trace_tree import Span, render_tree, services_of
from mesh_dev.wait import LOOPBACK

# https://opentelemetry.io/docs/specs/semconv/database/, in the version that SQLAlchemy's instrumentation uses.
DATABASE_ATTRIBUTE: Final = "db.system"
TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")


async def print_trace(settings: DevSettings, wanted_id: str) -> None:
    """Prints the trace with this id, or the one in which the run with this id was started."""
    port = PortPlan(settings.port_base).traces
    if not wanted_id:
        raise DevError("the id is missing: make trace ID=<trace or run id>")
    try:
        spans = await find_trace(f"http://{LOOPBACK}:{port}", wanted_id)
    except httpx.TransportError as error:
        raise DevError(f"no stack answers on port {port}: is `make dev` running (MESH_PORT_BASE)?") from error
    if not spans:
        raise DevError(f"no trace of {wanted_id} is stored; the stack stores the last 500 since its start")
    say(describe_trace(spans))


async def find_trace(traces_url: str, wanted_id: str) -> list[Span]:
    """The spans received so far; for a run, those of its earliest trace. Empty if there are none."""
    async with httpx.AsyncClient(base_url=traces_url, trust_env=False) as http:
        if TRACE_ID.fullmatch(wanted_id.lower()):
            response = await http.get(f"/traces/{wanted_id.lower()}")
            return _spans(response.json()) if response.is_success else []
        response = await http.get("/traces", params={"run_id": wanted_id.lower()})
        response.raise_for_status()
    traces = [_spans(item) for item in response.json()["items"]]
    return min(traces, key=lambda spans: min(span.start_ns for span in spans), default=[])


def describe_trace(spans: Iterable[Span]) -> str:
    spans = list(spans)
    services = ", ".join(services_of(spans))
    return f"trace {spans[0].trace_id}: {len(spans)} spans of {services}\n{render_tree(spans)}"


def describe_trace_without_statements(spans: Iterable[Span]) -> str:
    """For a screen: a turn has some 40 database statements, which would hide the rest."""
    spans = list(spans)
    shown = [span for span in spans if DATABASE_ATTRIBUTE not in span.attributes]
    omitted = len(spans) - len(shown)
    return f"{describe_trace(shown)}\n({omitted} spans of database statements are omitted; `make trace` shows them)"


def is_whole(spans: Iterable[Span]) -> bool:
    """Whether all spans have one common root. Spans arrive in the order in which they end, parents after children."""
    spans = list(spans)
    known = {span.span_id for span in spans}
    return bool(spans) and [span.parent_id for span in spans if span.parent_id not in known] == [None]


def _spans(trace: dict[str, Any]) -> list[Span]:
    return [Span(**span) for span in trace["spans"]]
