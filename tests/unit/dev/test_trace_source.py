import pytest
from mesh_dev.trace_source import is_whole
from mesh_dev.trace_tree import Span


def span(span_id: str, parent_id: str | None) -> Span:
    return Span(
        trace_id="0" * 32, span_id=span_id, parent_id=parent_id, service="agent", name="x", start_ns=0, end_ns=1
    )


@pytest.mark.parametrize(
    ("spans", "whole"),
    [
        ([], False),
        ([span("a", None)], True),
        ([span("a", None), span("b", "a"), span("c", "b")], True),
        ([span("b", "a")], False),
        ([span("a", None), span("c", "b")], False),
        ([span("a", None), span("b", None)], False),
    ],
)
def test_trace_is_whole_when_one_root_is_above_all(spans: list[Span], whole: bool) -> None:  # noqa: FBT001 - a case
    assert is_whole(spans) == whole
