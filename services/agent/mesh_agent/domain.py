"""Threads, messages and runs, and the rules about them."""

from collections.abc import Mapping, Sequence
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
# The default bound of an answer. Each answer is sent whole in one event, and listed in one page.
MAX_ANSWER_BYTES = 524_288
MAX_LOST_ATTEMPTS = 3
"""A run fails after this many attempts were lost with their owners and no new safe point was reached in between. A run
that crashes its replica must not crash all of them in turn. Attempts released by a drain do not count."""

MAX_REJECTION_CHARS = 2_000
MAX_DECIDED_BYTES = 65_536
"""Of edited arguments, and of an answer."""

Metadata = dict[str, str]
# Shared with events.
DecisionKind = events.DecisionKind
Interrupt = events.Interrupt
InterruptDecision = events.InterruptDecision
InterruptKind = events.InterruptKind
RecalledMemory = events.RecalledMemory
RunError = events.RunError
ToolResult = events.ToolResult
Usage = events.Usage
ExecutionId = NewType("ExecutionId", UUID)
"""The id of the LangGraph thread that a run shares with the runs that resume it."""


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


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    NOTE = "note"
    """What the agent notes about the conversation: a call that was not made."""
    UNKNOWN = "unknown"
    """A role stored by a newer release. Such messages are listed, but sent to no model."""

    @classmethod
    def _missing_(cls, value: object) -> "Role":
        del value
        return cls.UNKNOWN


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


class Effect(StrEnum):
    """The effect of calling a tool twice (docs/tools.md)."""

    NONE = "none"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


class Approval(StrEnum):
    """Which calls of a tool a person must approve (docs/tools.md)."""

    NEVER = "never"
    ALWAYS = "always"
    ON_EFFECT = "on_effect"
    """Those that have an effect, i.e. all calls of a tool whose effect is not `none`."""


@dataclass(frozen=True, slots=True)
class Thread:
    """`assistant`: what its last run was started with, as `name` or `name@version`; empty until a run names one."""

    id: ThreadId
    title: str
    metadata: Metadata
    created_at: datetime
    updated_at: datetime
    assistant: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    id: UUID
    role: Role
    content: str
    created_at: datetime
    run_id: RunId
    is_partial: bool


@dataclass(frozen=True, slots=True)
class Recalled:
    """Memories, best first. `forget_generation` is the user's current one; None from an older release of memory."""

    memories: Sequence[RecalledMemory] = ()
    forget_generation: int | None = None


@dataclass(frozen=True, slots=True)
class ToRemember:
    """A message for memory, with the forget generation of its run, if the run learned it."""

    message: Message
    forget_generation: int | None


@dataclass(frozen=True, slots=True)
class SaidInRun:
    """Where a user said something that a tool stores. `forget_generation` as in `ToRemember`."""

    run_id: RunId
    thread_id: ThreadId
    said_at: datetime
    forget_generation: int | None


@dataclass(frozen=True, slots=True)
class Said:
    """The part of a message that is sent to a model."""

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
    resumes_run_id: RunId | None = None
    interrupts: tuple[Interrupt, ...] = ()
    assistant: str = ""
    assistant_version: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What the graph asks a person about one tool call. `graph_id` is LangGraph's id of its interrupt."""

    call_key: str
    kind: InterruptKind
    call_id: str
    tool: str
    arguments_json: str
    question: str = ""
    answer_schema_json: str = ""
    graph_id: str = ""

    @property
    def allowed(self) -> tuple[DecisionKind, ...]:
        if self.kind is InterruptKind.QUESTION:
            return DecisionKind.ANSWER, DecisionKind.REJECT
        return DecisionKind.APPROVE, DecisionKind.EDIT, DecisionKind.REJECT


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the end of its run stores and shows it."""

    question: Question
    interrupt: Interrupt


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision about the call with this id."""

    call_id: str
    kind: DecisionKind
    value_json: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class DecidedCall:
    """A decision, and the call that it is about: no other call may be made with it."""

    call_key: str
    tool: str
    arguments_json: str
    decision: Decision
    graph_id: str = ""

    def is_about(self, question: Question) -> bool:
        return (self.tool, self.arguments_json) == (question.tool, question.arguments_json)


@dataclass(frozen=True, slots=True)
class InterruptedRun:
    """A run to be resumed, as it is stored. `is_interrupted` is False if it has not ended, or in another way."""

    id: RunId
    thread_id: ThreadId
    is_interrupted: bool
    execution_id: ExecutionId
    plan_hash: bytes | None
    metadata: Metadata
    assistant: str = ""
    assistant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ResumeInput:
    """A request to resume an interrupted run as the new run `run_id`."""

    run_id: RunId
    resumes_run_id: RunId
    decisions: tuple[Decision, ...]
    idempotency_key: str | None = None


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


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to execute one attempt of a run, as long as its lease holds.

    `fence` grows with every claim of a thread; writes with an older one are rejected. `history` holds the earlier
    messages of the thread, newest first, or None if the claim did not read them. `plan_hash` is None for a run started
    by a release without plans. `resumed_execution` is None for a run that resumes no other. `subject` has no roles and
    no scopes.
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
        """Whether the run belongs to the subject, regardless of roles and scopes."""
        return self.subject == subject.without_grants()

    @property
    def execution_id(self) -> ExecutionId:
        """The run's own id if it resumes no other."""
        return self.resumed_execution or ExecutionId(self.run_id)

    @property
    def opens_execution(self) -> bool:
        """Whether no earlier attempt can have stored checkpoints."""
        return self.attempt == 1 and self.resumed_execution is None


@dataclass(frozen=True, slots=True)
class CutRound:
    """A model's answer of which we read no more, because the run's answer is full. `usage` is our estimate."""

    text: str
    model: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What a user may use. None means everything or no limit; an empty tuple allows nothing."""

    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    context_tokens: int | None = None
    monthly_tokens: int | None = None
    used_tokens: int = 0

    def allows_model(self, name: str) -> bool:
        return self.models is None or name in self.models

    def allows_tool(self, name: str) -> bool:
        return self.tools is None or name in self.tools

    @property
    def is_used_up(self) -> bool:
        return self.monthly_tokens is not None and self.used_tokens >= self.monthly_tokens


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of the earlier attempts up to the last safe point. The next attempt continues from it."""

    texts: tuple[str, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    billed: Mapping[str, Usage] = field(default_factory=dict)
    """By model."""
    model: str = ""
    """The model that answered last."""


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, and what is stored with it. `answer` may be partial unless the status is SUCCEEDED."""

    status: RunStatus
    answer: str
    message_id: UUID
    model: str
    """The model that was asked last."""
    billed: Mapping[str, Usage]
    """By model: after a fallback several models have answered. The first to answer comes first."""
    finish_reason: str | None = None
    error: RunError | None = None
    forget_generation: int | None = None
    """The user's when the attempt recalled memories; None if it did not, or in vain."""
    asked: tuple[Asked, ...] = ()
    """Only if the status is INTERRUPTED, and then at least one."""
    is_remembered: bool = True
    """Whether memory may be told what was said."""

    @property
    def usage(self) -> Usage:
        total = Usage()
        for usage in self.billed.values():
            total = total.plus(usage)
        return total


class LeaseLostError(Exception):
    """Another replica may own the run by now, so nothing more may be sent or stored."""
