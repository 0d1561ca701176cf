"""The latest traces in memory, limited in number and in size."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from mesh_dev.trace_tree import Span

MAX_TRACES = 500
# A turn with eight tool rounds has some 100 spans; a trace with more than 2,000 is a loop.
MAX_SPANS_PER_TRACE = 2_000
RUN_ID_ATTRIBUTE = "mesh.run_id"


@dataclass(slots=True)
class Trace:
    trace_id: str
    spans: list[Span] = field(default_factory=list)
    dropped_spans: int = 0
    """Number of spans beyond the limit."""


class TraceStore:
    """Stores complete traces and evicts the one whose last span is oldest."""

    def __init__(self, max_traces: int = MAX_TRACES, max_spans_per_trace: int = MAX_SPANS_PER_TRACE) -> None:
        self._max_traces = max_traces
        self._max_spans_per_trace = max_spans_per_trace
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def add(self, spans: Iterable[Span]) -> None:
        for span in spans:
            trace = self._traces.setdefault(span.trace_id, Trace(span.trace_id))
            self._traces.move_to_end(span.trace_id)
            if len(trace.spans) < self._max_spans_per_trace:
                trace.spans.append(span)
            else:
                trace.dropped_spans += 1
        while len(self._traces) > self._max_traces:
            self._traces.popitem(last=False)

    def get(self, trace_id: str) -> Trace | None:
        return self._traces.get(trace_id)

    def of_run(self, run_id: str) -> list[Trace]:
        """The traces with a span of this run, newest first."""
        newest_first = reversed(self._traces.values())
        return [
            trace
            for trace in newest_first
            if any(span.attributes.get(RUN_ID_ATTRIBUTE) == run_id for span in trace.spans)
        ]
