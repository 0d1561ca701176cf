"""The other services' objects as the gateway knows them, independent of any client protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from mesh_common.events.interrupts import Interrupt
from mesh_common.events.model import RunError, Usage

KnownRunStatus = Literal["pending", "running", "succeeded", "failed", "cancelled", "interrupted"]
# `unknown` stands for a value of a newer release, here and below.
RunStatus = Literal[KnownRunStatus, "unknown"]
Role = Literal["user", "interim", "assistant", "note", "unknown"]
MemoryOrigin = Literal["extracted", "verbatim", "written", "unknown"]
AssistantSource = Literal["file", "api", "unknown"]
AssistantVisibility = Literal["private", "organisation"]
ScoreStatus = Literal["succeeded", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Page[T]:
    """One page of a list. `next_cursor` is None on the last one."""

    items: list[T]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    id: str
    title: str
    metadata: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    assistant: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    role: Role
    content: str
    created_at: datetime
    run_id: str
    is_partial: bool
    agent: str = ""
    """Of a team; empty for the run's own assistant."""


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    thread_id: str
    status: RunStatus
    attempt: int
    model: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    finish_reason: str | None
    usage: Usage | None
    error: RunError | None
    message: Message | None
    metadata: Mapping[str, str]
    resumes_run_id: str | None = None
    interrupts: tuple[Interrupt, ...] = ()
    assistant: str = ""
    assistant_version: str = ""
    usage_by_agent: Mapping[str, Usage] = field(default_factory=dict)
    """Only of an ended run of a team."""

    @property
    def has_ended(self) -> bool:
        if self.status == "unknown":
            return self.ended_at is not None
        return self.status not in {"pending", "running"}


@dataclass(frozen=True, slots=True)
class Assistant:
    """One version of an assistant. `created_at` and `created_by` are absent for files."""

    name: str
    version: str
    is_current: bool
    source: AssistantSource
    visibility: AssistantVisibility | Literal["unknown"]
    is_disabled: bool
    spec_json: str
    created_at: datetime | None
    created_by: str | None


@dataclass(frozen=True, slots=True)
class Model:
    """Prices are in micro-dollars per million tokens."""

    name: str
    context_tokens: int
    capabilities: list[str]
    input_micro_usd_per_mtok: int
    output_micro_usd_per_mtok: int


@dataclass(frozen=True, slots=True)
class Memory:
    """`similarity` is the cosine similarity to the query, -1..1; None except in a search."""

    id: str
    text: str
    origin: MemoryOrigin
    created_at: datetime
    updated_at: datetime
    run_id: str | None
    similarity: float | None


@dataclass(frozen=True, slots=True)
class Tokens:
    access_token: str
    expires_in_s: int
    refresh_token: str


@dataclass(frozen=True, slots=True)
class User:
    id: str
    email: str
    created_at: datetime
    is_admin: bool
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ModelUsage:
    model: str
    runs: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class MonthUsage:
    """`month` is YYYY-MM in UTC."""

    month: str
    models: list[ModelUsage]


@dataclass(frozen=True, slots=True)
class Score:
    name: str
    status: ScoreStatus
    value: float | None
    reasoning: str
    judge_model: str
    prompt_hash: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Scores:
    items: list[Score]
    is_pending: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A background job of a service that was given up. `reason` says why it failed last."""

    id: str
    kind: str
    user_id: str
    reason: str
    queued_at: datetime
    failed_at: datetime
