"""Handwritten histories of chaos schedules for the tests of the rules: good ones, and their parts."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from chaos.checker import check
from chaos.history import Call, Clock, History, Mark, Order, Seen, StoredMessage, StoredRun, Stream

type Spoil = Callable[[History], None]

REPLY = "Fine, thanks."


def seen(run_id: str, attempt: int, *bodies: tuple[str, dict[str, Any]], first: int = 1) -> list[Seen]:
    return [
        Seen(run_id=run_id, attempt=attempt, seq=seq, type=kind, fields=fields)
        for seq, (kind, fields) in enumerate(bodies, first)
    ]


def attempt_of(run_id: str, attempt: int, token: str) -> list[Seen]:
    opening: tuple[str, dict[str, Any]] = ("run_started", {"thread_id": "t"})
    if attempt > 1:
        opening = ("run_restarted", {"thread_id": "t", "reused_tool_results": []})
    return seen(
        run_id,
        attempt,
        opening,
        ("tool_started", {"call_id": f"c-{token}", "tool": "mark_once", "arguments": {"token": token}}),
        ("tool_finished", {"call_id": f"c-{token}", "content": "done", "is_error": False, "is_unknown": False}),
        ("message_delta", {"text": "Fine, "}),
        ("message_delta", {"text": "thanks."}),
        ("message_completed", {"content": REPLY}),
        ("run_finished", {"finish_reason": "stop"}),
    )


def start(key: str, outcome: Any, run_id: str = "", *, at_s: float = 0.0, status: int = 200) -> Call:
    return Call(
        user="ann",
        kind="start",
        outcome=outcome,
        gateway="gateway-1",
        started_s=at_s,
        ended_s=at_s + 0.5,
        status=status,
        key=key,
        run_id=run_id,
    )


def stored(run_id: str, **changes: Any) -> StoredRun:
    fields: dict[str, Any] = {
        "user": "ann",
        "id": run_id,
        "thread_id": "t",
        "status": "succeeded",
        "attempt": 1,
        "started_at": "10:00:01",
        "ended_at": "10:00:02",
        "content": REPLY,
    }
    return StoredRun(**(fields | changes))


def message(run_id: str, role: str, content: str, **changes: Any) -> StoredMessage:
    fields: dict[str, Any] = {"user": "ann", "id": f"{run_id}-{role}", "thread_id": "t", "run_id": run_id}
    return StoredMessage(**(fields | {"role": role, "content": content} | changes))


def good() -> History:
    """Two runs on one thread, one after the other: a lost answer and a repeat; a takeover, followed and resumed."""
    return History(
        orders=[
            Order(user="ann", key="k1", message="q1", reply=REPLY, once_tokens=("o1",)),
            Order(user="ann", key="k2", message="q2", reply=REPLY, thread_id="t", idempotent_tokens=("i2",)),
        ],
        calls=[
            start("k1", "unknown", status=0),
            start("k1", "ok", "r1", at_s=1.0),
            start("k2", "ok", "r2", at_s=2.0),
            Call(user="bob", kind="stranger", outcome="fail", gateway="g", started_s=3, ended_s=3, status=404),
        ],
        streams=[
            Stream(user="ann", run_id="r1", gateway="g", events=attempt_of("r1", 1, "o1")),
            Stream(user="ann", run_id="r1", gateway="g", is_replay=True, events=attempt_of("r1", 1, "o1")),
            Stream(user="ann", run_id="r2", gateway="g", is_cut=True, events=attempt_of("r2", 1, "i2")[:4]),
            Stream(user="ann", run_id="r2", gateway="g", after=(1, 4), events=attempt_of("r2", 2, "i2")),
            Stream(user="ann", run_id="r2", gateway="g", is_replay=True, events=attempt_of("r2", 2, "i2")),
        ],
        runs=[stored("r1"), stored("r2", attempt=2, started_at="10:00:02", ended_at="10:00:09")],
        messages=[
            message("r1", "user", "q1"),
            message("r1", "assistant", REPLY),
            message("r2", "user", "q2"),
            message("r2", "assistant", REPLY),
        ],
        marks=[
            Mark(tool="mark_once", key="r1:1:0", token="o1"),
            Mark(tool="mark_idempotent", key="r2:1:0", token="i2"),
            Mark(tool="mark_idempotent", key="r2:1:0", token="i2"),
        ],
    )


def cancelled() -> History:
    """One run that was refused once, then cancelled after half of its answer."""
    events = seen("r1", 1, ("run_started", {}), ("message_delta", {"text": "Fine, "}), ("run_cancelled", {}))
    return History(
        orders=[Order(user="ann", key="k1", message="q1", reply=REPLY)],
        calls=[
            start("k1", "ok", "r1"),
            Call(user="ann", kind="cancel", outcome="ok", gateway="g", started_s=1, ended_s=1, status=200, run_id="r1"),
        ],
        streams=[Stream(user="ann", run_id="r1", gateway="g", is_replay=True, events=events)],
        runs=[stored("r1", status="cancelled", content="Fine, ")],
        messages=[message("r1", "user", "q1"), message("r1", "assistant", "Fine, ", is_partial=True)],
    )


def failed_without_text() -> History:
    history = cancelled()
    history.streams[0].events = seen("r1", 1, ("run_started", {}), ("run_failed", {"reason": "MODEL_UNAVAILABLE"}))
    history.runs = [stored("r1", status="failed", reason="MODEL_UNAVAILABLE", content=None)]
    history.messages = history.messages[:1]
    return history


def unknown_call() -> History:
    """The attempt that took over found a started call: it reports it as unknown, and the run succeeds."""
    history = good()
    history.runs[0] = replace(history.runs[0], attempt=2)
    for stream in history.streams[:2]:
        stream.events = attempt_of("r1", 2, "o1")
        finished = stream.events[2]
        fields = {**finished.fields, "is_error": True, "is_unknown": True}
        stream.events[2] = replace(finished, fields=fields)
    return history


def taken_over() -> History:
    """The second run of the good history: its first attempt is seen until 3 s, its second from 6 s on."""
    history = good()
    for stream, at_s in zip(history.streams[2:], (3.0, 6.0, 20.0), strict=True):
        stream.events = [replace(event, at_s=at_s) for event in stream.events]
    return history


def timed(multitask: str, first: StoredRun, second: StoredRun) -> History:
    """Two runs of a thread, the second with `multitask`; 10:00:00 is 0 s, and it was acknowledged at 0.5 s."""
    history = good()
    history.orders[1] = replace(history.orders[1], multitask=multitask)
    history.calls = [start("k1", "ok", "r1", at_s=-5.0), start("k2", "ok", "r2")]
    history.runs = [first, second]
    history.clock = Clock(datetime.fromisoformat(at(0)).timestamp(), 0.0)
    history.lease_ttl_s = 3.0
    return history


def at(second: float) -> str:
    """In the stored format."""
    return f"2026-01-01T10:00:{second:09.6f}Z"


def rules_broken(history: History) -> set[str]:
    return {violation.rule for violation in check(history)}
