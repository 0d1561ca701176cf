from mesh_dev.trace_store import TraceStore
from mesh_dev.trace_tree import AttributeValue, Span


def span(trace_id: str, span_id: str = "1", **attributes: AttributeValue) -> Span:
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=None,
        service="agent",
        name="run",
        start_ns=0,
        end_ns=1,
        attributes=attributes,
    )


def test_spans_of_one_trace_come_together_over_several_exports() -> None:
    store = TraceStore()

    store.add([span("t", "1")])
    store.add([span("t", "2"), span("other")])

    trace = store.get("t")
    assert trace is not None
    assert [kept.span_id for kept in trace.spans] == ["1", "2"]


def test_the_trace_without_news_for_longest_is_forgotten_first() -> None:
    store = TraceStore(max_traces=2)

    store.add([span("old"), span("middle"), span("old", "2"), span("new")])

    assert store.get("middle") is None
    assert store.get("old") is not None
    assert store.get("new") is not None


def test_spans_beyond_the_bound_are_counted_and_dropped() -> None:
    store = TraceStore(max_spans_per_trace=2)

    store.add(span("t", str(number)) for number in range(5))

    trace = store.get("t")
    assert trace is not None
    assert len(trace.spans) == 2
    assert trace.dropped_spans == 3


def test_traces_are_found_by_the_run_that_any_of_their_spans_names() -> None:
    store = TraceStore()
    store.add([span("first", "1"), span("first", "2", **{"mesh.run_id": "run-1"})])
    store.add([span("second", **{"mesh.run_id": "run-1"}), span("third", **{"mesh.run_id": "run-2"})])

    found = store.of_run("run-1")

    assert [trace.trace_id for trace in found] == ["second", "first"]
