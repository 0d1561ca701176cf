import pytest
from mesh_dev.trace_tree import Span, format_duration, render_tree, services_of

MS = 1_000_000


def span(span_id: str, parent_id: str | None, service: str, *, start_ms: int, end_ms: int) -> Span:
    return Span(
        trace_id="t",
        span_id=span_id,
        parent_id=parent_id,
        service=service,
        name=f"do {span_id}",
        start_ns=start_ms * MS,
        end_ns=end_ms * MS,
    )


TURN = [
    span("c", "b", "memory", start_ms=2, end_ms=12),
    span("d", "b", "agent", start_ms=15, end_ms=1400),
    span("a", None, "gateway", start_ms=0, end_ms=1500),
    span("b", "a", "agent", start_ms=1, end_ms=1450),
    span("e", "a", "eval", start_ms=1460, end_ms=1461),
]


def test_children_are_below_their_parent_in_order_of_start() -> None:
    assert render_tree(TURN).splitlines() == [
        "gateway: do a  1.50 s",
        "├─ agent: do b  1.45 s",
        "│  ├─ memory: do c  10.0 ms",
        "│  └─ agent: do d  1.39 s",
        "└─ eval: do e  1.0 ms",
    ]


def test_status_and_its_message_are_shown() -> None:
    failed = Span(
        trace_id="t",
        span_id="a",
        parent_id=None,
        service="agent",
        name="chat",
        start_ns=0,
        end_ns=MS,
        status="error",
        status_message="the provider cut the stream",
    )

    assert render_tree([failed]) == "agent: chat  1.0 ms  error  (the provider cut the stream)"


def test_span_whose_parent_is_missing_is_shown_all_the_same() -> None:
    orphan = span("b", "a", "agent", start_ms=0, end_ms=1)

    assert render_tree([orphan]) == "agent: do b  1.0 ms  [its parent a is missing]"


def test_no_spans_give_no_lines() -> None:
    assert render_tree([]) == ""


def test_services_come_in_the_order_in_which_they_took_part() -> None:
    assert services_of(TURN) == ["gateway", "agent", "memory", "eval"]


@pytest.mark.parametrize(("duration_ms", "text"), [(0.04, "0.0 ms"), (999.9, "999.9 ms"), (1000, "1.00 s")])
def test_durations_change_unit_at_a_second(duration_ms: float, text: str) -> None:
    assert format_duration(duration_ms) == text
