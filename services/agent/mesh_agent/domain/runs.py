"""Runs: how they are asked for, and what is stored of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mesh_common.events import model as events
from mesh_common.ids import RunId, ThreadId

from mesh_agent.domain.interrupts import Interrupt
from mesh_agent.domain.threads import Message, Metadata

MAX_MESSAGE_CHARS = 32_000
# The default bound of an answer. Each answer is sent whole in one event, and listed in one page.
MAX_ANSWER_BYTES = 524_288
RunError = events.RunError
Usage = events.Usage


class RunStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Ended with questions to a person; a resume starts the next run of the execution."""
    UNKNOWN = "unknown"
    """A status stored by a newer release. It counts as ended: only pending and running runs continue."""

    @classmethod
    def _missing_(cls, value: object) -> "RunStatus":
        del value
        return cls.UNKNOWN

    @property
    def is_ended(self) -> bool:
        return self not in {RunStatus.PENDING, RunStatus.RUNNING}


class Multitask(StrEnum):
    """What a new run does to the unended runs of its thread."""

    ENQUEUE = "enqueue"
    REJECT = "reject"
    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"

    @property
    def replaces(self) -> bool:
        """Whether the unended runs are cancelled."""
        return self in {Multitask.INTERRUPT, Multitask.ROLLBACK}


class OnDisconnect(StrEnum):
    CONTINUE = "continue"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Run:
    id: RunId
    thread_id: ThreadId
    status: RunStatus
    attempt: int
    model: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    usage: Usage | None
    error: RunError | None
    metadata: Metadata
    finish_reason: str | None
    message: Message | None = None
    resumes_run_id: RunId | None = None
    interrupts: tuple[Interrupt, ...] = ()
    assistant: str = ""
    assistant_version: str = ""
    usage_by_agent: Mapping[str, Usage] = field(default_factory=dict)
    """Only of an ended run of a team."""


@dataclass(frozen=True, slots=True)
class RunInput:
    """A caller's request to start a run. If `thread_id` is None, the run starts on a new thread."""

    run_id: RunId
    thread_id: ThreadId | None
    message: str
    model: str | None = None
    metadata: Metadata = field(default_factory=dict)
    multitask: Multitask = Multitask.ENQUEUE
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    idempotency_key: str | None = None
    assistant: str | None = None
    """`name` or `name@version`; None for the thread's, or the default one."""
    response_format_json: str | None = None
    """None for the assistant's, or text."""


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """Where a run's events come from: its frames if it has ended, otherwise the owner of its lease.

    A run without an owner is pending, or its owner's lease has expired.
    """

    thread_id: ThreadId
    is_ended: bool
    frames: bytes | None
    owner: str | None
    owner_address: str | None
