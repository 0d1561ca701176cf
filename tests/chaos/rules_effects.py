"""Rules about tools: the external effects of calls, compared with what the run reported about them."""

from collections.abc import Iterator, Mapping
from typing import Any

from chaos.facts import Facts, Violation
from chaos.history import Order


def effects(facts: Facts) -> Iterator[Violation]:
    """`once` leaves one mark or is reported unknown, and never leaves two. `idempotent` repeats only with one key."""
    keys: dict[str, list[str]] = {}
    for mark in facts.history.marks:
        keys.setdefault(mark.token, []).append(mark.key)
    for order in facts.history.orders:
        for token in order.once_tokens:
            if len(keys.get(token, ())) > 1:
                yield Violation("once", token, f"marked {len(keys[token])} times: {keys[token]}")
        for token in order.idempotent_tokens:
            if len(set(keys.get(token, ()))) > 1:
                yield Violation("idempotent", token, f"called under several keys: {sorted(set(keys[token]))}")
    for run_id, order in facts.order_of.items():
        yield from _reported(facts, run_id, order, keys)


def _reported(facts: Facts, run_id: str, order: Order, keys: Mapping[str, list[str]]) -> Iterator[Violation]:
    results = _results_by_token(facts, run_id)
    has_succeeded = run_id in facts.runs and facts.runs[run_id].status == "succeeded"
    for token in (*order.once_tokens, *order.idempotent_tokens):
        result = results.get(token)
        if result is None:
            if has_succeeded:
                yield Violation("effect", token, f"{run_id} succeeded but reports no such call")
        elif token not in keys and not result["is_error"]:
            yield Violation("effect", token, f"{run_id} reports success, but there is no mark")
        elif token in keys and result["is_error"] and not result.get("is_unknown"):
            yield Violation("effect", token, f"{run_id} reports certainly no effect: {result['content']}")
        elif token not in keys and has_succeeded and not result.get("is_unknown"):
            # The tools' server is always available and accepts every call.
            yield Violation("effect", token, f"{run_id} succeeded but never made the call: {result['content']}")
    for token in order.once_tokens + order.idempotent_tokens:
        if any(not key.startswith(f"{run_id}:") for key in keys.get(token, ())):
            yield Violation("effect", token, f"the key does not belong to {run_id}: {keys[token]}")


def unknowns(facts: Facts) -> Iterator[Violation]:
    """A call is unknown only if an earlier attempt may have made it and left no result.

    There are no faults between agents and tools here, so the first attempt receives every answer. A run that did not
    succeed is exempt, because it may have been stopped in the middle of a call.
    """
    for run in facts.history.runs:
        if run.status != "succeeded":
            continue
        events = facts.last_attempt(run.id)
        reused = {
            str(result["call_id"])
            for event in events
            if event.type == "run_restarted"
            for result in event.fields["reused_tool_results"]
        }
        for event in events:
            if event.type != "tool_finished" or not event.fields.get("is_unknown"):
                continue
            call_id = str(event.fields["call_id"])
            if run.attempt == 1:
                yield Violation("unknown", run.id, f"{call_id} is unknown to the first attempt, which made it")
            if call_id in reused:
                yield Violation("unknown", run.id, f"{call_id} is unknown, but its result was reused")


def _results_by_token(facts: Facts, run_id: str) -> dict[str, Mapping[str, Any]]:
    """The results that the last attempt reports, including reused ones."""
    token_of: dict[str, str] = {}
    for stream in facts.streams.get(run_id, ()):
        for event in stream.events:
            if event.type == "tool_started" and isinstance(event.fields["arguments"], dict):
                token_of[str(event.fields["call_id"])] = str(event.fields["arguments"].get("token"))
    results: list[Mapping[str, Any]] = []
    for event in facts.last_attempt(run_id):
        if event.type == "run_restarted":
            results += event.fields["reused_tool_results"]
        elif event.type == "tool_finished":
            results.append(event.fields)
    return {token_of[str(result["call_id"])]: result for result in results if str(result["call_id"]) in token_of}
