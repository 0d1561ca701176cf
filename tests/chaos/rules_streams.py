"""Rules about events: those that each follower saw, and those that all of them saw together."""

from collections.abc import Iterator, Sequence
from typing import Final

from chaos.facts import Facts, Violation, text_of
from chaos.history import TERMINAL_STATUS, Seen, Stream, Trouble

# Via owner, peer, gateway and proxies on a busy machine, a follower may get an event this much after another.
_DELIVERY_S: Final = 1.0
# After its fault ends, a slow proxy still delivers its last chunk; a throttled one takes longest.
_LAST_CHUNK_S: Final = 2.0
_HOLDING_LINK_FAULTS: Final = frozenset({"delay", "throttle", "partition", "partition_to", "partition_from"})


def gaps(facts: Facts) -> Iterator[Violation]:
    """Each stream starts at the requested position without gaps; attempts start at 1 and never go back."""
    for stream in facts.history.streams:
        attempt, seq = stream.after or (0, 0)
        for event in stream.events:
            is_next = event.attempt == attempt and event.seq == seq + 1
            if not is_next and not (event.attempt > attempt and event.seq == 1):
                detail = f"{event.attempt}:{event.seq} after {attempt}:{seq} at {stream.gateway}"
                yield Violation("gap", stream.run_id, detail)
            attempt, seq = event.attempt, event.seq


def openings(facts: Facts) -> Iterator[Violation]:
    """The first attempt opens with a start, a later one with a restart. A run that was never claimed only ends."""
    for stream in facts.history.streams:
        for event in stream.events:
            is_opening = event.type in {"run_started", "run_restarted"}
            expected = "run_started" if event.attempt == 1 else "run_restarted"
            if is_opening != (event.seq == 1) or (is_opening and event.type != expected):
                if event.seq == 1 and event.type == "run_cancelled" and event.attempt == 1:
                    continue
                yield Violation("opening", stream.run_id, f"{event.attempt}:{event.seq} is {event.type}")


def terminals(facts: Facts) -> Iterator[Violation]:
    """A run has one end: the same for all, equal to the stored one, and with nothing after it."""
    for run_id, streams in facts.streams.items():
        ends = {
            (event.attempt, event.seq, event.type) for stream in streams for event in stream.events if event.is_terminal
        }
        if len(ends) > 1:
            yield Violation("terminal", run_id, f"it ended as {sorted(ends)}")
        for stream in streams:
            if any(event.is_terminal for event in stream.events[:-1]):
                yield Violation("terminal", run_id, f"something came after the end at {stream.gateway}")
        run = facts.runs.get(run_id)
        if run:
            for attempt, _, kind in ends:
                if (attempt, TERMINAL_STATUS[kind]) != (max(1, run.attempt), run.status):
                    yield Violation("terminal", run_id, f"reported {kind} of attempt {attempt}, stored {run}")
    for run in facts.history.runs:
        if run.status in TERMINAL_STATUS.values() and run.id not in facts.replays:
            yield Violation("terminal", run.id, "its events cannot be replayed to the end")


def disagreements(facts: Facts) -> Iterator[Violation]:
    """An id denotes the same event for all followers, live or replayed; no attempt exceeds the stored one."""
    for run_id, streams in facts.streams.items():
        seen: dict[tuple[int, int], Seen] = {}
        for event in (event for stream in streams for event in stream.events):
            first = seen.setdefault((event.attempt, event.seq), event)
            if (first.type, first.fields) != (event.type, event.fields) or event.run_id != run_id:
                yield Violation("disagreement", run_id, f"{first} and {event}")
        run = facts.runs.get(run_id)
        latest = max((attempt for attempt, _ in seen), default=0)
        if run and latest > max(1, run.attempt):
            yield Violation("disagreement", run_id, f"attempt {latest} was seen, {run.attempt} is stored")


def stale_owners(facts: Facts) -> Iterator[Violation]:
    """Once anyone has seen an attempt, nobody receives events of an earlier one: an owner without a lease is silent.

    Events that were sent in time may be delayed by a slow or cut link that carries streams, or by a paused gateway.
    Such a fault extends the limit until its end. A fault of the owner, or of its link to the database, does not: those
    make owners stale.
    """
    for run_id, streams in facts.streams.items():
        events = [event for stream in streams for event in stream.events]
        first_s: dict[int, float] = {}
        for event in events:
            first_s[event.attempt] = min(event.at_s, first_s.get(event.attempt, event.at_s))
        for event in events:
            later_s = min((at_s for attempt, at_s in first_s.items() if attempt > event.attempt), default=event.at_s)
            if event.at_s > facts.due_s(
                later_s,
                _DELIVERY_S,
                after_trouble_s=_LAST_CHUNK_S,
                look_back_s=_LAST_CHUNK_S,
                harms=_holds_streams_back,
            ):
                late_s = event.at_s - later_s
                detail = f"{event.attempt}:{event.seq} came {late_s:.1f} s after a later attempt was seen"
                yield Violation("stale", run_id, detail)


def _holds_streams_back(trouble: Trouble) -> bool:
    if trouble.target.startswith(("client>", "gateway>", "agent>")):
        return trouble.kind in _HOLDING_LINK_FAULTS
    return trouble.kind == "pause" and trouble.target.startswith("gateway")


def texts(facts: Facts) -> Iterator[Violation]:
    """The joined deltas equal the completed messages, of which the last is the answer."""
    for stream in facts.history.streams:
        for events in _whole_attempts(stream):
            completed = [str(event.fields["content"]) for event in events if event.type == "message_completed"]
            if completed and text_of(events) != "".join(completed):
                yield Violation("text", stream.run_id, f"deltas give {text_of(events)!r}, completed is {completed}")


def strangers(facts: Facts) -> Iterator[Violation]:
    """Other users get 404 for every request; streams are only of one's own runs."""
    for call in facts.history.calls:
        if call.kind == "stranger" and call.outcome != "unknown" and call.status != 404:
            subject = call.run_id or call.thread_id
            yield Violation("private", subject, f"{call.user}, a stranger, was answered with {call.status}")
    for stream in facts.history.streams:
        run = facts.runs.get(stream.run_id)
        if run and run.user != stream.user:
            yield Violation("private", stream.run_id, f"{stream.user} followed a run of {run.user}")


def _whole_attempts(stream: Stream) -> list[Sequence[Seen]]:
    attempts: dict[int, list[Seen]] = {}
    for event in stream.events:
        attempts.setdefault(event.attempt, []).append(event)
    return [events for events in attempts.values() if events[0].seq == 1]
