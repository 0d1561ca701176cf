"""Rules about runs and threads: none lost, none duplicated, in order, and with the right text."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from chaos.facts import TRANSACTION_S, Facts, Violation, text_of
from chaos.history import TERMINAL_STATUS, Call, Order, StoredMessage, StoredRun

_ENDED = frozenset(TERMINAL_STATUS.values())
COSTS_NO_LEASE: Final = frozenset({"slow_database", "odd_model"})
"""Faults that slow everybody down and stop nobody."""


def lost_runs(facts: Facts) -> Iterator[Violation]:
    """An acknowledged run is found by its user and has ended; so has every other run."""
    for key in facts.orders:
        for run_id in facts.acknowledged(key) - facts.runs.keys():
            yield Violation("lost", run_id, f"acknowledged for {key}, but not found")
    for run in facts.history.runs:
        if run.status not in _ENDED:
            yield Violation("lost", run.id, f"never ended: {run.status}, attempt {run.attempt}")
    for call in facts.history.calls:
        if call.kind in {"follow", "cancel"} and call.status == 404:
            yield Violation("lost", call.run_id, f"{call.kind} at {call.gateway} by its user was answered with 404")


def runs_twice(facts: Facts) -> Iterator[Violation]:
    """One key gives one run, in all answers and in the threads; a certain refusal gives none."""
    stored: dict[str, set[str]] = {}
    for run_id, order in facts.order_of.items():
        stored.setdefault(order.key, set()).add(run_id)
    for key in facts.orders:
        named, kept = facts.acknowledged(key), stored.get(key, set())
        if len(named | kept) > 1:
            yield Violation("twice", key, f"answers name {sorted(named)}, threads hold {sorted(kept)}")
        outcomes = {call.outcome for call in facts.starts.get(key, ())}
        if kept and outcomes == {"fail"}:
            yield Violation("twice", key, f"refused, but {sorted(kept)} exists")


def refused_repetitions(facts: Facts) -> Iterator[Violation]:
    """A request that is repeated, or sent twice concurrently, gets the run that it created."""
    for run_id, order in facts.order_of.items():
        run = facts.runs.get(run_id)
        refused = [call for call in facts.starts.get(order.key, ()) if call.outcome == "fail"]
        for call in refused:
            if run and not _found_another(facts, call, run):
                detail = f"refused with {call.status} at {call.gateway}, and yet {run.id} is there"
                yield Violation("twice", call.key, detail)


def _found_another(facts: Facts, call: Call, run: StoredRun) -> bool:
    """Whether a refused request may have come before the same request created its run at the other gateway.

    A request with `reject` may, if another run had the thread then and ended before this run was stored. Requests that
    came later find the run and must be answered with it.
    """
    if facts.orders[call.key].multitask != "reject":
        return False
    acknowledged_s = facts.acknowledged_s(call.key)
    if acknowledged_s is not None and acknowledged_s < call.started_s:
        return False
    runs = facts.threads[run.thread_id]
    return any(_may_be_unended(facts, earlier, call.started_s) for earlier in runs[: runs.index(run)])


def _may_be_unended(facts: Facts, run: StoredRun, at_s: float) -> bool:
    ended_s = facts.moment_s(run.ended_at)
    # The stored time of its end is earlier than the commit, which a fault delays.
    return ended_s is None or at_s <= facts.due_s(ended_s, TRANSACTION_S, after_trouble_s=TRANSACTION_S)


def foreign_runs(facts: Facts) -> Iterator[Violation]:
    """Every run was ordered and is in a thread of the user who ordered it."""
    for run in facts.history.runs:
        order = facts.order_of.get(run.id)
        if order is None:
            yield Violation("foreign", run.id, f"{run.user} has a run that nobody ordered")
        elif order.user != run.user or order.thread_id not in {None, run.thread_id}:
            yield Violation("foreign", run.id, f"ordered by {order.user} for {order.thread_id}: {run.thread_id}")


def messages_of_runs(facts: Facts) -> Iterator[Violation]:
    """A run has one question and at most one answer; if it succeeded, exactly one, which is what the model said."""
    for run in facts.history.runs:
        messages = facts.messages.get(run.id, ())
        roles = [message.role for message in messages]
        if roles not in (["user"], ["user", "assistant"]):
            yield Violation("messages", run.id, f"{run.status} with {roles}")
        answer = next((message for message in messages if message.role == "assistant"), None)
        if run.content != (answer.content if answer else None):
            yield Violation("messages", run.id, f"the run says {run.content!r}, its thread {answer}")
        order = facts.order_of.get(run.id)
        if order and run.status in _ENDED:
            yield from _text(facts, run, order, answer)


def _text(facts: Facts, run: StoredRun, order: Order, answer: StoredMessage | None) -> Iterator[Violation]:
    if run.status == "succeeded":
        if answer is None or answer.is_partial or answer.content != order.reply:
            yield Violation("text", run.id, f"succeeded with {answer}, but the model said {order.reply!r}")
    elif answer and (not answer.is_partial or not order.reply.startswith(answer.content)):
        yield Violation("text", run.id, f"{run.status} with {answer}, but the model said {order.reply!r}")
    if run.id in facts.replays:
        streamed = text_of(facts.last_attempt(run.id))
        if streamed != (answer.content if answer else ""):
            yield Violation("text", run.id, f"{run.status}: deltas give {streamed!r}, the thread has {answer}")


def order_in_threads(facts: Facts) -> Iterator[Violation]:
    """Messages are in the order of the runs, question before answer; the thread has one run at a time."""
    for thread_id, runs in facts.threads.items():
        actual = [(message.run_id, message.role) for message in facts.thread_messages.get(thread_id, ())]
        expected = [(run.id, role) for run in runs for role in ("user", "assistant") if (run.id, role) in actual]
        if actual != expected:
            yield Violation("order", thread_id, f"runs give {expected}, messages are {actual}")
        yield from _one_at_a_time(runs)
        yield from _as_acknowledged(facts, runs)


def _one_at_a_time(runs: Sequence[StoredRun]) -> Iterator[Violation]:
    begun = [run for run in runs if run.started_at]
    for before, after in pairwise(begun):
        # Both times come from the database's clock in the same format.
        if after.started_at < before.ended_at or not before.ended_at:
            yield Violation("order", after.id, f"began {after.started_at}, {before.id} ended {before.ended_at}")


def _as_acknowledged(facts: Facts, runs: Sequence[StoredRun]) -> Iterator[Violation]:
    """A run requested after another was acknowledged comes after it."""
    first_asked: dict[str, float] = {}
    acknowledged: dict[str, float] = {}
    for run in runs:
        order = facts.order_of.get(run.id)
        starts = facts.starts.get(order.key, ()) if order else ()
        first_asked[run.id] = min((call.started_s for call in starts), default=0.0)
        acknowledged[run.id] = min((call.ended_s for call in starts if call.outcome == "ok"), default=float("inf"))
    for index, run in enumerate(runs):
        for later in runs[index + 1 :]:
            if acknowledged[later.id] < first_asked[run.id]:
                yield Violation("order", run.id, f"comes before {later.id}, which was acknowledged earlier")


def causeless_takeovers(facts: Facts) -> Iterator[Violation]:
    """Overload and odd answers cost nobody a lease: a run has one attempt unless something else happened as well."""
    kinds = {trouble.kind for trouble in facts.history.troubles}
    if not kinds or not kinds <= COSTS_NO_LEASE:
        return
    for run in facts.history.runs:
        if run.attempt > 1:
            yield Violation("takeover", run.id, f"attempt {run.attempt}, though there was only {sorted(kinds)}")


def causeless_cancels(facts: Facts) -> Iterator[Violation]:
    """A run is cancelled only by a cancel, by a disconnect with `cancel`, or by a later interrupting run."""
    cancelled = {call.run_id for call in facts.history.calls if call.kind == "cancel"}
    for runs in facts.threads.values():
        for index, run in enumerate(runs):
            if run.status != "cancelled" or run.id in cancelled:
                continue
            order = facts.order_of.get(run.id)
            later = [facts.order_of.get(other.id) for other in runs[index + 1 :]]
            is_interrupted = any(other and other.multitask == "interrupt" for other in later)
            if order and order.on_disconnect != "cancel" and not is_interrupted:
                yield Violation("cancel", run.id, "cancelled, but nobody requested it")
