"""What happened in one schedule, as clients, the tools' server and a reader after the storm have it. No logic."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

type Outcome = Literal["ok", "fail", "unknown"]
"""`fail` had no effect for certain; `unknown` may have had one."""

TERMINAL_STATUS = {"run_finished": "succeeded", "run_failed": "failed", "run_cancelled": "cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A run that a user wants. Message and key are no other order's; the tokens of tools neither."""

    user: str
    key: str
    message: str
    reply: str
    """What the simulator says to this message, whole."""
    thread_id: str | None = None
    multitask: str = "enqueue"
    on_disconnect: str = "continue"
    once_tokens: tuple[str, ...] = ()
    idempotent_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. `run_id` is what its answer named, or what it was about."""

    user: str
    kind: str
    outcome: Outcome
    gateway: str
    started_s: float
    ended_s: float
    status: int = 0
    """Of HTTP; 0 when no answer came."""
    reason: str = ""
    key: str = ""
    run_id: str = ""
    thread_id: str = ""
    run_status: str = ""
    """How the run stood, by the answer; of cancels only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event as a follower got it."""

    run_id: str
    attempt: int
    seq: int
    type: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    at_s: float = 0.0
    """When it came, monotonic."""

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL_STATUS


@dataclass(slots=True, kw_only=True)
class Stream:
    """One HTTP stream: where it was to go on after, and what came. A replay is read after the storm, whole."""

    user: str
    run_id: str
    gateway: str
    after: tuple[int, int] | None = None
    """Attempt and seq of its Last-Event-ID."""
    is_replay: bool = False
    is_cut: bool = False
    """It broke off, rather than ended; or the client left."""
    events: list[Seen] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """In lists a thread's first run comes first."""

    user: str
    id: str
    thread_id: str
    status: str
    attempt: int
    created_at: str = ""
    """These three by the database's clock; empty when it has not come to that."""
    started_at: str = ""
    ended_at: str = ""
    reason: str = ""
    content: str | None = None
    """Of its final message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    user: str
    id: str
    thread_id: str
    run_id: str
    role: str
    content: str
    is_partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What one call of a tool left outside."""

    tool: str
    key: str
    token: str
    at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One fault as it was done: from its first harm until all runs again (monotonic)."""

    kind: str
    target: str
    begun_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Clock:
    """One moment by two clocks: the database's, which is this machine's, and the clients'."""

    wall_s: float
    monotonic_s: float


@dataclass(slots=True)
class History:
    orders: list[Order] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    runs: list[StoredRun] = field(default_factory=list)
    messages: list[StoredMessage] = field(default_factory=list)
    """Of each thread in the thread's order."""
    marks: list[Mark] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    clock: Clock | None = None
    """Without it stored times and clients' times are not compared."""
    lease_ttl_s: float = 6.0

    def lines(self) -> Iterable[bytes]:
        """One JSON object a line: what kind it is, and its fields."""
        clock = asdict(self.clock) if self.clock else None
        head = {"record": "head", "clock": clock, "lease_ttl_s": self.lease_ttl_s}
        yield orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE)
        for kind in ("orders", "calls", "streams", "runs", "messages", "marks", "troubles"):
            for record in getattr(self, kind):
                yield orjson.dumps({"record": kind, **asdict(record)}, option=orjson.OPT_APPEND_NEWLINE)
