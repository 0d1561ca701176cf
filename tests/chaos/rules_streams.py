"""Rules about events: what each follower saw, and what all of them together did."""

from collections.abc import Iterator, Sequence
from typing import Final

from chaos.facts import Facts, Violation, text_of
from chaos.history import TERMINAL_STATUS, Seen, Stream, Trouble

# Through owner, peer, gateway and proxies on a busy machine: one follower hears that much later than another.
_DELIVERY_S: Final = 1.0
# A slow proxy is still at its last chunk when its fault is over; a throttled one for longest.
_LAST_CHUNK_S: Final = 2.0
_HOLDING_LINK_FAULTS: Final = frozenset({"delay", "throttle", "partition", "partition_to", "partition_from"})


def gaps(facts: Facts) -> Iterator[Violation]:
    """Each stream begins where it was asked to and goes on by ones; attempts begin at 1 and never go back."""
    for stream in facts.history.streams:
        attempt, seq = stream.after or (0, 0)
        for event in stream.events:
            is_next = event.attempt == attempt and event.seq == seq + 1
            if not is_next and not (event.attempt > attempt and event.seq == 1):
                detail = f"{event.attempt}:{event.seq} after {attempt}:{seq} at {stream.gateway}"
                yield Violation("gap", stream.run_id, detail)
            attempt, seq = event.attempt, event.seq


def openings(facts: Facts) -> Iterator[Violation]:
    """An attempt opens with what it is: the first a start, a later one a restart. A run that nobody had just ends."""
    for stream in facts.history.streams:
        for event in stream.events:
            is_opening = event.type in {"run_started", "run_restarted"}
            expected = "run_started" if event.attempt == 1 else "run_restarted"
            if is_opening != (event.seq == 1) or (is_opening and event.type != expected):
                if event.seq == 1 and event.type == "run_cancelled" and event.attempt == 1:
                    continue
                yield Violation("opening", stream.run_id, f"{event.attempt}:{event.seq} is {event.type}")


def terminals(facts: Facts) -> Iterator[Violation]:
    """One end a run, the same for all, the stored one, and nothing after it."""
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
                    yield Violation("terminal", run_id, f"told {kind} of attempt {attempt}, stored {run}")
    for run in facts.history.runs:
        if run.status in TERMINAL_STATUS.values() and run.id not in facts.replays:
            yield Violation("terminal", run.id, "its events cannot be replayed to the end")


def disagreements(facts: Facts) -> Iterator[Violation]:
    """One id is one event, whoever sees it, live or replayed; no attempt is beyond the stored one."""
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
    """Once anyone has seen an attempt, nobody gets events of one before it: an owner without its lease is silent.

    What was sent in time may be held back on the way: by a slow or cut link that carries streams, or by a gateway that
    stands still. Such a fault at that time puts the limit off until its end. A fault of the owner does not, nor one of
    its link to the database: those are what makes owners stale.
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
    """Deltas joined are the completed message."""
    for stream in facts.history.streams:
        for events in _whole_attempts(stream):
            completed = [str(event.fields["content"]) for event in events if event.type == "message_completed"]
            if completed and [text_of(events)] != completed:
                yield Violation("text", stream.run_id, f"deltas give {text_of(events)!r}, completed is {completed}")


def strangers(facts: Facts) -> Iterator[Violation]:
    """Others get 404, whatever they try; streams are of one's own runs."""
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
