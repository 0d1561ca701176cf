"""Hypothesis strategies for what happens in runs."""

from hypothesis import strategies as st
from mesh_agent.domain import RecalledMemory, RunError, ToolResult, Usage
from mesh_agent.events import (
    MemoryRecalled,
    MessageCompleted,
    MessageDelta,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunFinished,
    RunRestarted,
    RunStarted,
    ToolFinished,
    ToolStarted,
)
from mesh_common.ids import RunId

# Neither JSON nor protobuf carries lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_COUNTS = st.integers(0, 2**40)
_USAGES = st.builds(Usage, _COUNTS, _COUNTS, _COUNTS)
_ERRORS = st.builds(RunError, TEXTS, TEXTS, is_retryable=st.booleans())
_MEMORIES = st.builds(RecalledMemory, TEXTS, TEXTS, st.floats(-1, 1))
# `arguments_json` does not travel with a result: ToolStarted has told it.
RESULTS = st.builds(ToolResult, TEXTS, TEXTS, st.just(""), TEXTS, st.booleans())
BODIES = st.one_of(
    st.builds(RunStarted, TEXTS),
    st.builds(RunRestarted, TEXTS, st.lists(RESULTS, max_size=3).map(tuple)),
    st.builds(MemoryRecalled, st.lists(_MEMORIES, max_size=3).map(tuple), is_unavailable=st.booleans()),
    st.builds(MessageDelta, TEXTS, TEXTS),
    st.builds(MessageCompleted, TEXTS, TEXTS, TEXTS),
    st.builds(ToolStarted, TEXTS, TEXTS, TEXTS),
    st.builds(ToolFinished, RESULTS),
    st.builds(RunFinished, TEXTS, _USAGES),
    st.builds(RunFailed, _ERRORS, _USAGES),
    st.builds(RunCancelled, _USAGES),
)
EVENTS = st.builds(RunEvent, st.uuids().map(RunId), st.integers(1, 2**31), st.integers(1, 2**31), BODIES)
