"""Rules about how runs end: the reasons for which they may fail, and the promises of cancel, interrupt and reject."""

from collections.abc import Iterator, Sequence
from typing import Final

from chaos.facts import SKEW_S, TRANSACTION_S, Facts, Violation, calls_of
from chaos.history import TERMINAL_STATUS, Call, StoredRun

_ENDED: Final = frozenset(TERMINAL_STATUS.values())
# An unavailable model or database. A schedule loses at most two owners, so no run has too many attempts; and a crash or
# a run that hangs is a defect under any fault.
_LEGAL_REASONS: Final = frozenset(
    {"MODEL_UNAVAILABLE", "MODEL_TIMEOUT", "MODEL_CUT_OFF", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
)
# A poll for claims, the transaction of the end, and a busy machine.
_CANCEL_SLACK_S: Final = 3.0
# The owner learns of it at once, or at its next heartbeat, which comes every third of a lease.
_INTERRUPT_S: Final = 2.0


def failures(facts: Facts) -> Iterator[Violation]:
    """A run fails only because a model or a database is unavailable."""
    for run in facts.history.runs:
        if run.status == "failed" and run.reason not in _LEGAL_REASONS:
            yield Violation("failure", run.id, f"failed with {run.reason or 'no reason'}, attempt {run.attempt}")


def cancels(facts: Facts) -> Iterator[Violation]:
    """The answer to a cancel reports how the run ended, or the run ends soon afterwards."""
    for call in calls_of(facts, "cancel"):
        run = facts.runs.get(call.run_id)
        if call.outcome == "ok" and run is not None:
            yield from _cancel(facts, call, run)


def _cancel(facts: Facts, call: Call, run: StoredRun) -> Iterator[Violation]:
    ended_s = facts.moment_s(run.ended_at)
    if call.run_status in _ENDED:
        # A run that ended, or was ending, before the cancel reached it does not change; but the answer must hold.
        if run.status != call.run_status:
            yield Violation(
                "cancelled", run.id, f"the answer to its cancel says {call.run_status}, stored {run.status}"
            )
        if ended_s is not None and ended_s > call.ended_s + SKEW_S:
            yield Violation(
                "cancelled", run.id, f"reported as {call.run_status} {ended_s - call.ended_s:.1f} s before it ended"
            )
        return
    # The answer said that the run has not ended: its owner is unreachable. Until the owner's next heartbeat, or until
    # its lease expires, the run may still end by itself, even as succeeded or failed; it must not continue after that.
    within_s = facts.history.lease_ttl_s + _CANCEL_SLACK_S
    due_s = facts.due_s(call.ended_s, within_s, after_trouble_s=within_s)
    if ended_s is not None and ended_s > due_s:
        detail = f"{run.status} {ended_s - call.ended_s:.1f} s after its cancel was answered"
        yield Violation("cancelled", run.id, detail)


def interrupts(facts: Facts) -> Iterator[Violation]:
    """Once an interrupting run is acknowledged, no earlier run of its thread succeeds."""
    for index, run, runs in _of_multitask(facts, "interrupt"):
        acknowledged_s = facts.acknowledged_s(facts.order_of[run.id].key)
        if acknowledged_s is None:
            continue
        # An end that was being stored is not interrupted: a fault on the link to the database may delay its commit. And
        # an owner without notice and without heartbeat may send and store events as long as its lease holds.
        due_s = facts.due_s(
            acknowledged_s,
            _INTERRUPT_S,
            after_trouble_s=facts.history.lease_ttl_s + _INTERRUPT_S,
            look_back_s=facts.history.lease_ttl_s,
        )
        for earlier in runs[:index]:
            ended_s = facts.moment_s(earlier.ended_at)
            if earlier.status == "succeeded" and ended_s is not None and ended_s > due_s:
                detail = f"succeeded {ended_s - acknowledged_s:.1f} s after {run.id} had interrupted it"
                yield Violation("interrupt", earlier.id, detail)


def rejects(facts: Facts) -> Iterator[Violation]:
    """A run with `reject` found its thread idle.

    Later runs were added after it, because the thread is locked. Earlier runs may have ended while it waited for that
    lock: after its creation, but before its acknowledgement.
    """
    for index, run, runs in _of_multitask(facts, "reject"):
        # The start of the transaction, which then waits for the thread's row.
        created_s = facts.moment_s(run.created_at)
        if created_s is None:
            continue
        due_s = facts.due_s(created_s, TRANSACTION_S, after_trouble_s=TRANSACTION_S, look_back_s=TRANSACTION_S)
        acknowledged_s = facts.acknowledged_s(facts.order_of[run.id].key)
        if acknowledged_s is not None:
            due_s = min(due_s, acknowledged_s + SKEW_S)
        for earlier in runs[:index]:
            ended_s = facts.moment_s(earlier.ended_at)
            if ended_s is None or ended_s > due_s:
                detail = f"was accepted, but {earlier.id} ended {earlier.ended_at or 'never'}, created {run.created_at}"
                yield Violation("reject", run.id, detail)


def _of_multitask(facts: Facts, multitask: str) -> Iterator[tuple[int, StoredRun, Sequence[StoredRun]]]:
    """Runs started with `multitask`: their index in the thread, the run, the thread's runs."""
    for runs in facts.threads.values():
        for index, run in enumerate(runs):
            order = facts.order_of.get(run.id)
            if order and order.multitask == multitask:
                yield index, run, runs
