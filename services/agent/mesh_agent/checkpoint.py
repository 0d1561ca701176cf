"""LangGraph's checkpoints, buffered until a safe point and written under the run's lease.

langgraph-checkpoint-postgres writes each step, so a plain turn would pay for steps from which no run resumes. This
saver buffers them instead, and flushes before a tool starts and after each tool result. The transaction of a flush
first locks the lease's row and compares the fencing number, so a stale owner cannot write. It also renews the lease,
because heartbeats skip a locked row, and a flush to a slow database may outlast two of them. Each flush creates an
AsyncPostgresSaver, because one serialises all its calls behind a lock (langgraph#7259).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid5

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from mesh_agent.domain.attempts import Claim, LeaseLostError
from mesh_agent.lease import HeldLease, while_lease_holds
from mesh_agent.store.checkpoint_database import CheckpointConnection, CheckpointDatabase
from mesh_agent.store.fenced import begin_call, forget_lost_attempts, lock_lease, share_run
from mesh_agent.store.recorded import CHANNEL, recorded

# Only LangChain's own messages and plain values: stored data can never name a class to construct.
_STRICT = JsonPlusSerializer(allowed_msgpack_modules=None)

# Makes the ids of tasks, under which LangGraph's tables hold what is recorded, from keys.
_KEYS: Final = UUID("6f6ea7b8-31c4-5d0c-9a53-2f9f2d4c8e11")

FENCE = "mesh_fence"
"""Key of the fencing number in a graph's `configurable`."""

_Write = Callable[[AsyncPostgresSaver], Any]


@dataclass(slots=True)
class RunCheckpoints:
    """The checkpoints of one attempt: `waiting` are the writes of the next safe point."""

    claim: Claim
    lease: HeldLease
    database: CheckpointDatabase
    waiting: list[_Write] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    has_written: bool = False
    is_each_step_safe: bool = False
    """Whether each step of the graph is a safe point, and not only what the built-in graph makes one."""

    async def flush(self) -> None:
        """Writes the pending checkpoints. Raises LeaseLostError if this replica no longer owns the run."""
        await self._flush(None)

    async def begin_once(self, call_key: str) -> bool:
        """A safe point that also records the start of a call that may run only once.

        False if an earlier attempt has started the call: whether it took effect is then unknown. Raises LeaseLostError.
        """
        may_begin = await self._flush(call_key)
        if not self.lease.holds():
            raise LeaseLostError
        return may_begin

    async def record(self, checkpoint_id: str, key: str, value: Mapping[str, Any]) -> None:
        """A safe point that also stores the value, which later attempts find by `recorded`. Raises LeaseLostError.

        `key` is unique within the execution; a second value under it is ignored.
        """
        configurable = {"thread_id": str(self.claim.execution_id), "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
        config: RunnableConfig = {"configurable": configurable}
        task_id = str(uuid5(_KEYS, key))
        self.waiting.append(lambda saver: saver.aput_writes(config, [(CHANNEL, {**value, "key": key})], task_id))
        await self.flush()

    async def recorded(self) -> list[Mapping[str, Any]]:
        """What earlier attempts of the execution have recorded, each with its `key`. The first one runs no query."""
        if self.claim.opens_execution:
            return []
        async with self.database.as_subject(self.claim.subject) as connection:
            rows = await recorded(connection, self.claim.execution_id)
        return [_STRICT.loads_typed(row) for row in rows]

    async def _flush(self, once_key: str | None) -> bool:
        async with self.lock:
            if not self.waiting and once_key is None:
                return True
            writes = list(self.waiting)
            self.has_written = True
            may_begin = await while_lease_holds(self.lease.holds, lambda: self._write(writes, once_key))
            del self.waiting[: len(writes)]
            return may_begin

    async def _write(self, writes: Sequence[_Write], once_key: str | None) -> bool:
        async with self.database.as_subject(self.claim.subject) as connection:
            # Lock the run's row before the lease's, as everywhere: inserting the record of a call locks the run through
            # its foreign key.
            if once_key is not None:
                await share_run(connection, self.claim.run_id)
            if self.claim.lost_attempts:
                await forget_lost_attempts(connection, self.claim)
            locked_at_s = time.monotonic()
            if not await lock_lease(connection, self.claim, ttl_s=self.lease.ttl_s):
                raise LeaseLostError
            saver = _saver_on(connection)
            for write in writes:
                await write(saver)
            may_begin = once_key is None or await begin_call(connection, self.claim, once_key)
        self.lease.renewed(locked_at_s)
        return may_begin


class BufferedSaver(BaseCheckpointSaver[str]):
    """One per process, compiled into the graph. `thread_id` in its configs is the execution's id.

    The fencing number tells attempts apart, because an attempt that lost its lease may still run here when the next
    one starts.
    """

    def __init__(self, database: CheckpointDatabase) -> None:
        super().__init__(serde=_STRICT)
        self._database = database
        self._open: dict[int, RunCheckpoints] = {}

    @asynccontextmanager
    async def open(self, claim: Claim, lease: HeldLease) -> AsyncIterator[RunCheckpoints]:
        """Accepts checkpoints of this attempt while open. On exit, drops those that were not flushed."""
        checkpoints = self._open[claim.fence] = RunCheckpoints(claim, lease, self._database)
        try:
            yield checkpoints
        finally:
            del self._open[claim.fence]

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The last safe point of the earlier attempts. The first attempt of an execution has none and runs no query."""
        claim = self._checkpoints(config).claim
        if claim.opens_execution:
            return None
        async with self._database.as_subject(claim.subject) as connection:
            return await _saver_on(connection).aget_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        checkpoints = self._checkpoints(config)
        checkpoints.waiting.append(lambda saver: saver.aput(config, checkpoint, metadata, new_versions))
        if checkpoints.is_each_step_safe:
            await checkpoints.flush()
        configurable = config["configurable"]
        return {
            "configurable": {
                "thread_id": configurable["thread_id"],
                FENCE: configurable[FENCE],
                "checkpoint_ns": configurable.get("checkpoint_ns", ""),
                "checkpoint_id": checkpoint["id"],
            }
        }

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        checkpoints = self._checkpoints(config)
        checkpoints.waiting.append(lambda saver: saver.aput_writes(config, writes, task_id, task_path))
        if checkpoints.is_each_step_safe or any(_is_tool_result(value) for _, value in writes):
            await checkpoints.flush()

    def get_next_version(self, current: str | None, channel: None) -> str:  # noqa: ARG002 - LangGraph's signature
        """Counts like langgraph-checkpoint-postgres, without its random suffix: the fence ensures a single writer."""
        number = 0 if current is None else int(str(current).split(".")[0])
        return f"{number + 1:032}"

    def _checkpoints(self, config: RunnableConfig) -> RunCheckpoints:
        return self._open[config["configurable"][FENCE]]


def _saver_on(connection: CheckpointConnection) -> AsyncPostgresSaver:
    return AsyncPostgresSaver(connection, serde=_STRICT)


def _is_tool_result(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, ToolMessage) for item in value)
