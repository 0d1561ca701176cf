"""Hypothesis strategies for all events of a run."""

from datetime import UTC, datetime

from hypothesis import strategies as st
from mesh_agent.domain.runs import RunError, Usage
from mesh_agent.domain.threads import RecalledMemory
from mesh_agent.domain.tools import ToolResult
from mesh_common.events import model as events
from mesh_common.events.interrupts import DecisionKind, Interrupt, InterruptDecision, InterruptKind
from mesh_common.events.model import EventBody, RunEvent
from mesh_common.ids import RunId

# Text of users, models and tools: any character that UTF-8 can encode.
texts = st.text(st.characters(codec="utf-8"), max_size=40)
_counts = st.integers(0, 2**53)

usages = st.builds(Usage, _counts, _counts, _counts)
run_errors = st.builds(RunError, texts, texts, is_retryable=st.booleans())
memories = st.builds(RecalledMemory, texts, texts, st.floats(-1, 1))


_times = st.datetimes(datetime(2026, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - zoned
_decisions = st.builds(
    InterruptDecision,
    st.sampled_from(DecisionKind),
    texts,
    _times,
    value_json=texts,
    message=texts,
)
interrupts = st.builds(
    Interrupt,
    *[texts] * 3,
    st.sampled_from(InterruptKind),
    *[texts] * 5,
    st.lists(st.sampled_from(DecisionKind), max_size=3).map(tuple),
    _times,
    _times,
    st.none() | _decisions,
)


def tool_results(arguments_json: st.SearchStrategy[str] = texts) -> st.SearchStrategy[ToolResult]:
    return st.builds(ToolResult, texts, texts, arguments_json, texts, st.booleans())


def bodies(results: st.SearchStrategy[ToolResult]) -> st.SearchStrategy[EventBody]:
    return st.one_of(
        st.builds(events.RunStarted, texts),
        st.builds(events.RunRestarted, texts, st.lists(results, max_size=3).map(tuple)),
        st.builds(events.MemoryRecalled, st.lists(memories, max_size=3).map(tuple), st.booleans()),
        st.builds(events.MessageDelta, texts, texts),
        st.builds(events.MessageCompleted, texts, texts, texts),
        st.builds(events.ToolStarted, texts, texts, texts),
        st.builds(events.ToolFinished, results),
        st.builds(events.StepStarted, texts),
        st.builds(events.StepFinished, texts),
        st.builds(events.Custom, texts, texts),
        st.builds(events.RunFinished, texts, usages),
        st.builds(events.RunFailed, run_errors, usages),
        st.builds(events.RunCancelled, usages),
        st.builds(events.RunInterrupted, st.lists(interrupts, max_size=2).map(tuple), usages),
    )


def run_events(results: st.SearchStrategy[ToolResult]) -> st.SearchStrategy[RunEvent]:
    ids = st.uuids().map(RunId)
    return st.builds(RunEvent, ids, st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1), bodies(results))
