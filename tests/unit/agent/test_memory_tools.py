"""Tools for the user's memory: what they store, for whom, and what the model learns of errors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from mesh_agent.domain.threads import RecalledMemory, SaidInRun
from mesh_agent.domain.tools import ToolResult
from mesh_agent.tools.call import CallIdentity, ToolCall, calling
from mesh_agent.tools.memory import memory_tools
from mesh_agent.tools.registry import ToolRegistry
from mesh_common.clock import utc_now
from mesh_common.errors import (
    AlreadyExists,
    DeadlineExceeded,
    MeshError,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    Unavailable,
)
from mesh_common.ids import RunId, ThreadId, new_id
from mesh_common.subject import Subject
from support.subjects import some_subject

ADA = some_subject()
MEMORY_ID = str(new_id())


@dataclass
class FakeMemories:
    error: MeshError | None = None
    found: Sequence[RecalledMemory] = ()
    calls: list[tuple[object, ...]] = field(default_factory=list)

    async def create(self, subject: Subject, text: str, said: SaidInRun) -> str:
        self._note("create", subject, text, said)
        return MEMORY_ID

    async def replace(self, subject: Subject, memory_id: str, text: str) -> None:
        self._note("replace", subject, memory_id, text)

    async def search(self, subject: Subject, query: str) -> Sequence[RecalledMemory]:
        self._note("search", subject, query)
        return self.found

    async def delete(self, subject: Subject, memory_id: str) -> None:
        self._note("delete", subject, memory_id)

    def _note(self, *call: object) -> None:
        self.calls.append(call)
        if self.error:
            raise self.error


async def _called(memories: FakeMemories, name: str, **arguments: object) -> ToolResult:
    registry = ToolRegistry(memory_tools(memories))
    identity = CallIdentity("run:1:0", ADA, RunId(new_id()), ThreadId(new_id()), forget_generation=3)
    with calling(identity):
        return await registry.call(ToolCall("call-1", name, arguments), registry.planned)


async def test_fact_is_kept_for_the_user_of_the_run_with_its_source() -> None:
    memories = FakeMemories()

    result = await _called(memories, "remember", text="The user likes tea.")

    assert (result.content, result.is_error) == (f"Remembered as {MEMORY_ID}.", False)
    [(name, subject, text, said)] = memories.calls
    assert (name, subject, text) == ("create", ADA, "The user likes tea.")
    assert isinstance(said, SaidInRun)
    assert said.forget_generation == 3
    assert abs(said.said_at - utc_now()) < timedelta(minutes=1)


async def test_correction_replaces_the_memory_instead_of_adding_one() -> None:
    memories = FakeMemories()

    await _called(memories, "remember", text="The user's wife is called Marie.", replaces=MEMORY_ID)

    assert memories.calls == [("replace", ADA, MEMORY_ID, "The user's wife is called Marie.")]


async def test_each_found_memory_is_one_line_with_its_id() -> None:
    """A memory with line breaks must not look like two."""
    memories = FakeMemories(found=[RecalledMemory(MEMORY_ID, "Likes tea.\nLikes\tcake.", 0.9)])

    assert (await _called(memories, "search_memory", query="tea")).content == f"{MEMORY_ID} Likes tea. Likes cake."
    assert (await _called(FakeMemories(), "search_memory", query="tea")).content == "Nothing is remembered."


async def test_memory_is_forgotten_for_the_user_of_the_run() -> None:
    memories = FakeMemories()

    assert (await _called(memories, "forget", memory_id=MEMORY_ID)).content == "Forgotten."
    assert memories.calls == [("delete", ADA, MEMORY_ID)]


@pytest.mark.parametrize("name", ["remember", "forget"])
@pytest.mark.parametrize(
    ("error", "explained", "is_unknown"),
    [
        (NotFound("x"), "no memory with this id", False),
        (AlreadyExists("x"), "says the same", False),
        (PreconditionFailed("x", reason="FORGOTTEN"), "Ask them to say it again", False),
        (QuotaExceeded("You have 3 memories.", retry_after_s=1.0), "You have 3 memories.", False),
        (Unavailable("Away."), "Away.", False),
        (DeadlineExceeded("x"), "did not answer in time", True),
    ],
)
async def test_model_learns_why_memory_did_not_change(
    name: str, error: MeshError, explained: str, *, is_unknown: bool
) -> None:
    arguments = {"text": "Tea."} if name == "remember" else {"memory_id": MEMORY_ID}

    result = await _called(FakeMemories(error), name, **arguments)

    assert explained in result.content
    assert (result.is_error, result.is_unknown) == (True, is_unknown)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("remember", {"text": ""}),
        ("remember", {"text": "x" * 2_001}),
        ("remember", {"text": "Tea.", "user_id": str(new_id())}),
        ("search_memory", {"query": ""}),
        ("forget", {}),
        ("forget", {"memory_id": "all"}),
    ],
)
async def test_arguments_outside_the_bounds_call_nothing(name: str, arguments: dict[str, object]) -> None:
    memories = FakeMemories()

    result = await _called(memories, name, **arguments)

    if "user_id" in arguments:
        # What the model adds is ignored; the run decides whose memories these are.
        assert [call[1] for call in memories.calls] == [ADA]
    else:
        assert (result.is_error, memories.calls) == (True, [])
