"""The right to execute one attempt of a run, and how the attempt went."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from mesh_common.ids import RunId, ThreadId, UserId
from mesh_common.subject import Subject

from mesh_agent.domain.interrupts import Asked, ExecutionId
from mesh_agent.domain.runs import RunError, RunStatus, Usage
from mesh_agent.domain.threads import Said
from mesh_agent.domain.tools import ToolResult

MAX_LOST_ATTEMPTS = 3
"""A run fails after this many attempts were lost with their owners and no new safe point was reached in between. A run
that crashes its replica must not crash all of them in turn. Attempts released by a drain do not count."""


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
class Progress:
    """The result of the earlier attempts up to the last safe point. The next attempt continues from it."""

    texts: tuple[str, ...] = ()
    """Each a message of its own, unless `is_one_message`."""
    is_one_message: bool = False
    tool_results: tuple[ToolResult, ...] = ()
    billed: Mapping[str, Usage] = field(default_factory=dict)
    """By model."""
    model: str = ""
    """The model that answered last."""
    billed_by_agent: Mapping[str, Usage] = field(default_factory=dict)
    """By agent of a team, the run's own assistant without a name; empty for other runs."""
    agent: str = ""
    """The agent of a team that wrote the last of the texts; empty for the run's own assistant."""


@dataclass(frozen=True, slots=True)
class InterimMessage:
    """A message before the answer, by an agent of a team or, without a name, by the run's own assistant."""

    id: UUID
    content: str
    agent: str = ""


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
    """Whether memory may receive what was said."""
    interim: tuple[InterimMessage, ...] = ()
    """What the run said before, oldest first."""
    agent: str = ""
    """The agent of a team that wrote the answer; empty for the run's own assistant."""
    billed_by_agent: Mapping[str, Usage] = field(default_factory=dict)
    """Empty for a run that is of no team."""

    @property
    def usage(self) -> Usage:
        total = Usage()
        for usage in self.billed.values():
            total = total.plus(usage)
        return total


class LeaseLostError(Exception):
    """Another replica may own the run by now, so nothing more may be sent or stored."""
