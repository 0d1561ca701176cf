"""Threads, messages and runs, and the rules about them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

from mesh_common.events import model as events
from mesh_common.ids import RunId, ThreadId, UserId
from mesh_common.subject import Subject

MAX_MESSAGE_CHARS = 32_000
MAX_TITLE_CHARS = 200
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512
MAX_TOOL_RESULT_CHARS = 8_000
MAX_LOST_ATTEMPTS = 3
"""Attempts whose owner went away, without a new safe point between, before a run fails: one that kills its replica
must not kill all of them in turn. Attempts given back by a drain do not count."""

Metadata = dict[str, str]
# Events carry these as well.
RecalledMemory = events.RecalledMemory
RunError = events.RunError
ToolResult = events.ToolResult
Usage = events.Usage
ExecutionId = NewType("ExecutionId", UUID)
"""Names the LangGraph thread of a run and of the runs that resume it."""


class RunStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Any that a newer release stored. It is an end: only runs that are pending or running go on."""

    @classmethod
    def _missing_(cls, value: object) -> "RunStatus":
        del value
        return cls.UNKNOWN

    @property
    def is_ended(self) -> bool:
        return self not in {RunStatus.PENDING, RunStatus.RUNNING}


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    UNKNOWN = "unknown"
    """Any that a newer release stored: listed, and shown to no model."""

    @classmethod
    def _missing_(cls, value: object) -> "Role":
        del value
        return cls.UNKNOWN


class Multitask(StrEnum):
    """What a new run does about the runs of its thread that have not ended."""

    ENQUEUE = "enqueue"
    REJECT = "reject"
    INTERRUPT = "interrupt"


class OnDisconnect(StrEnum):
    CONTINUE = "continue"
    CANCEL = "cancel"


class Effect(StrEnum):
    """What calling a tool twice would do to the world (DESIGN §6.7)."""

    NONE = "none"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


@dataclass(frozen=True, slots=True)
class Thread:
    id: ThreadId
    title: str
    metadata: Metadata
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    id: UUID
    role: Role
    content: str
    created_at: datetime
    run_id: RunId
    is_partial: bool


@dataclass(frozen=True, slots=True)
class Said:
    """What a model is shown of a message."""

    role: Role
    content: str


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


@dataclass(frozen=True, slots=True)
class RunInput:
    """What a caller gives to start a run; `thread_id` None makes a new thread with it."""

    run_id: RunId
    thread_id: ThreadId | None
    message: str
    model: str | None = None
    metadata: Metadata = field(default_factory=dict)
    multitask: Multitask = Multitask.ENQUEUE
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to execute one attempt of a run, as long as its lease holds.

    `fence` grows with every claim of a thread; whoever writes with an older one is refused. `history` is what of the
    thread came before, newest first; None when whoever claimed did not read it. `plan_hash` is None for a run that a
    release without plans started, `resumed_execution` for a run that resumes no other. `subject` has no roles
    and no scopes.
    """

    run_id: RunId
    thread_id: ThreadId
    subject: Subject
    position: int
    attempt: int
    fence: int
    message: str
    model: str | None
    trace_context: dict[str, str]
    lost_attempts: int = 0
    is_cancel_requested: bool = False
    history: tuple[Said, ...] | None = None
    plan_hash: bytes | None = None
    resumed_execution: ExecutionId | None = None

    @property
    def user_id(self) -> UserId:
        return self.subject.user_id

    def is_of(self, subject: Subject) -> bool:
        """Whether the run belongs to the subject, whatever its roles and scopes."""
        return self.subject == subject.without_grants()

    @property
    def execution_id(self) -> ExecutionId:
        """A run that resumes no other has its own id for it."""
        return self.resumed_execution or ExecutionId(self.run_id)

    @property
    def opens_execution(self) -> bool:
        """Whether no attempt came before that could have left checkpoints."""
        return self.attempt == 1 and self.resumed_execution is None


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What a user may use. Empty tuples mean everything; None means no bound."""

    models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    context_tokens: int | None = None
    monthly_tokens: int | None = None
    used_tokens: int = 0

    def allows_model(self, name: str) -> bool:
        return not self.models or name in self.models

    def allows_tool(self, name: str) -> bool:
        return not self.tools or name in self.tools

    @property
    def is_used_up(self) -> bool:
        return self.monthly_tokens is not None and self.used_tokens >= self.monthly_tokens


@dataclass(frozen=True, slots=True)
class Progress:
    """What the attempts before brought up to the last safe point: a later one builds on it instead of repeating it."""

    texts: tuple[str, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    usage: Usage = Usage()  # noqa: RUF009 - frozen
    model: str = ""
    """The one that answered last."""


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """What decides where a run's events come from: its frames when it ended, else the owner of its lease.

    No owner: it waits for one, be it pending, or left by one whose lease ran out.
    """

    thread_id: ThreadId
    is_ended: bool
    frames: bytes | None
    owner: str | None
    owner_address: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the status and what is stored with it. `answer` may be partial unless SUCCEEDED."""

    status: RunStatus
    answer: str
    message_id: UUID
    model: str
    usage: Usage
    finish_reason: str | None = None
    error: RunError | None = None
