"""The history of one schedule, as seen by clients, the tools' server and a reader afterwards. No logic."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

type Outcome = Literal["ok", "fail", "unknown"]
"""`fail` certainly had no effect; `unknown` may have had one."""

TERMINAL_STATUS = {
    "run_finished": "succeeded",
    "run_failed": "failed",
    "run_cancelled": "cancelled",
    "run_interrupted": "interrupted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A run that a user wants. Its message, its key and the tokens of its tools are unique."""

    user: str
    key: str
    message: str
    reply: str
    """The simulator's complete answer to this message."""
    thread_id: str | None = None
    multitask: str = "enqueue"
    on_disconnect: str = "continue"
    once_tokens: tuple[str, ...] = ()
    idempotent_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. `run_id` is the run that its answer named, or that it concerned."""

    user: str
    kind: str
    outcome: Outcome
    gateway: str
    started_s: float
    ended_s: float
    status: int = 0
    """The HTTP status; 0 if no answer came."""
    reason: str = ""
    key: str = ""
    run_id: str = ""
    thread_id: str = ""
    run_status: str = ""
    """The run's status in the answer; only for cancels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event as a follower received it."""

    run_id: str
    attempt: int
    seq: int
    type: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    at_s: float = 0.0
    """When it was received, monotonic."""

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL_STATUS


@dataclass(slots=True, kw_only=True)
class Stream:
    """One HTTP stream: the requested position and the events received. A replay is read in full after the schedule."""

    user: str
    run_id: str
    gateway: str
    after: tuple[int, int] | None = None
    """Attempt and seq of its Last-Event-ID."""
    is_replay: bool = False
    is_cut: bool = False
    """The stream was interrupted before its end, or the client disconnected."""
    events: list[Seen] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """Lists of runs start with a thread's first run."""

    user: str
    id: str
    thread_id: str
    status: str
    attempt: int
    created_at: str = ""
    """These three are by the database's clock; empty if it has not happened."""
    started_at: str = ""
    ended_at: str = ""
    reason: str = ""
    content: str | None = None
    """The text of its final message."""


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
    """The external effect of one tool call."""

    tool: str
    key: str
    token: str
    at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One injected fault: from its first effect until everything runs again (monotonic)."""

    kind: str
    target: str
    begun_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Clock:
    """The same moment by two clocks: the database's, which is this machine's, and the clients'."""

    wall_s: float
    monotonic_s: float


@dataclass(slots=True)
class History:
    orders: list[Order] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    runs: list[StoredRun] = field(default_factory=list)
    messages: list[StoredMessage] = field(default_factory=list)
    """Each thread's messages, in the thread's order."""
    marks: list[Mark] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    clock: Clock | None = None
    """If None, stored times are not compared with the clients' times."""
    lease_ttl_s: float = 6.0

    def lines(self) -> Iterable[bytes]:
        """One JSON object per line: its kind and its fields."""
        clock = asdict(self.clock) if self.clock else None
        head = {"record": "head", "clock": clock, "lease_ttl_s": self.lease_ttl_s}
        yield orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE)
        for kind in ("orders", "calls", "streams", "runs", "messages", "marks", "troubles"):
            for record in getattr(self, kind):
                yield orjson.dumps({"record": kind, **asdict(record)}, option=orjson.OPT_APPEND_NEWLINE)
