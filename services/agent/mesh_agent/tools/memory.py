"""Tools for the user's long-term memory: keep a fact, search the facts, forget one.

They are off by default: a model that may change what is kept about people should do so because somebody decided it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Final

from langchain_core.tools import ToolException, tool
from mesh_common.errors import AlreadyExists, DeadlineExceeded, MeshError, NotFound, PreconditionFailed
from mesh_common.ids import RunId
from pydantic import Field

from mesh_agent.domain.threads import SaidInRun
from mesh_agent.domain.tools import Effect
from mesh_agent.ports import PersonalMemories
from mesh_agent.sdk.tool import UnknownOutcomeError
from mesh_agent.tools.call import CallIdentity, current_call
from mesh_agent.tools.registry import MeshTool
from mesh_agent.tools.tool import Tool, of_function

_Text = Annotated[str, Field(min_length=1, max_length=2_000)]
_MemoryId = Annotated[str, Field(min_length=36, max_length=36)]
_UUID_MILLISECONDS_SHIFT: Final = 80
NAMES: Final = ("remember", "search_memory", "forget")


def memory_tools(memories: PersonalMemories) -> list[MeshTool]:
    return [
        MeshTool(_remember_tool(memories), Effect.IDEMPOTENT),
        MeshTool(_search_memory_tool(memories), Effect.NONE),
        MeshTool(_forget_tool(memories), Effect.IDEMPOTENT),
    ]


def _remember_tool(memories: PersonalMemories) -> Tool:
    @tool
    async def remember(text: _Text, replaces: _MemoryId | None = None) -> str:
        """Keeps one fact about the user for later conversations. Use it only if the user asks for it.

        `text` is one sentence in the user's language. `replaces` is the id of a memory that the fact corrects, from
        `search_memory`.
        """
        call = current_call()
        with _explained():
            if replaces:
                await memories.replace(call.subject, replaces, text)
                return f"Corrected. The memory {replaces} now says: {text}"
            memory_id = await memories.create(call.subject, text, _said(call))
        return f"Remembered as {memory_id}."

    return of_function(remember)


def _search_memory_tool(memories: PersonalMemories) -> Tool:
    @tool
    async def search_memory(query: _Text) -> str:
        """Finds what is remembered about the user, nearest in meaning first. Each line has a memory's id and text."""
        with _explained():
            found = await memories.search(current_call().subject, query)
        lines = [f"{memory.id} {' '.join(memory.text.split())}" for memory in found]
        return "\n".join(lines) or "Nothing is remembered."

    return of_function(search_memory)


def _forget_tool(memories: PersonalMemories) -> Tool:
    @tool
    async def forget(memory_id: _MemoryId) -> str:
        """Deletes one memory about the user for good. Use it only if the user asks for it.

        `memory_id` comes from `search_memory`. To correct a memory, use `remember` with `replaces` instead.
        """
        with _explained():
            await memories.delete(current_call().subject, memory_id)
        return "Forgotten."

    return of_function(forget)


def _said(call: CallIdentity) -> SaidInRun:
    return SaidInRun(call.run_id, call.thread_id, _created_at(call.run_id), call.forget_generation)


def _created_at(run_id: RunId) -> datetime:
    """A UUIDv7 starts with the milliseconds since 1970. The user's message came with its run."""
    return datetime.fromtimestamp((run_id.int >> _UUID_MILLISECONDS_SHIFT) / 1_000, UTC)


@contextmanager
def _explained() -> Iterator[None]:
    """Turns errors of memory into texts for the model."""
    try:
        yield
    except NotFound as error:
        raise ToolException("There is no memory with this id. Use search_memory to find it.") from error
    except AlreadyExists as error:
        raise ToolException("Another memory says the same already.") from error
    except PreconditionFailed as error:
        raise ToolException(
            "The user deleted memories since they said this, so it was not stored. Ask them to say it again."
        ) from error
    except DeadlineExceeded as error:
        raise UnknownOutcomeError("Memory did not answer in time.") from error
    except MeshError as error:
        raise ToolException(error.message) from error
