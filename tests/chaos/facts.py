"""A history, indexed as the rules need it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chaos.history import Call, History, Order, Seen, StoredMessage, StoredRun, Stream, Trouble

# Between two readings of one machine's clocks, and from a commit until a client sees it.
SKEW_S: Final = 0.5
# Duration of a transaction on a busy machine: stored times are those of its statements, or of its start.
TRANSACTION_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    subject: str
    """The run, thread, key or token that it concerns."""
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.detail}"


class Facts:
    """Built once per history."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.orders: Mapping[str, Order] = {order.key: order for order in history.orders}
        self.runs: Mapping[str, StoredRun] = {run.id: run for run in history.runs}
        self.starts = _grouped(history.calls, lambda call: call.key if call.kind == "start" else None)
        """By Idempotency-Key, in the order in which they ended."""
        self.threads: Mapping[str, Sequence[StoredRun]] = _grouped(history.runs, lambda run: run.thread_id)
        self.thread_messages: Mapping[str, Sequence[StoredMessage]] = _grouped(
            history.messages, lambda message: message.thread_id
        )
        self.messages: Mapping[str, Sequence[StoredMessage]] = _grouped(
            history.messages, lambda message: message.run_id
        )
        self.streams: Mapping[str, Sequence[Stream]] = _grouped(history.streams, lambda stream: stream.run_id)
        self.replays: Mapping[str, Stream] = {
            stream.run_id: stream for stream in history.streams if stream.is_replay and not stream.is_cut
        }
        self.order_of = self._order_of_runs()

    def acknowledged(self, key: str) -> set[str]:
        """The runs named in answers to this key: one, if nothing is wrong."""
        return {call.run_id for call in self.starts.get(key, ()) if call.outcome == "ok"}

    def acknowledged_s(self, key: str) -> float | None:
        """When an answer to this key first named its run."""
        return min((call.ended_s for call in self.starts.get(key, ()) if call.outcome == "ok"), default=None)

    def moment_s(self, stored_at: str) -> float | None:
        """A stored time on the clients' clock; None if there is none, or if it cannot be converted."""
        clock = self.history.clock
        if clock is None or not stored_at:
            return None
        return datetime.fromisoformat(stored_at).timestamp() - clock.wall_s + clock.monotonic_s

    def due_s(
        self,
        from_s: float,
        within_s: float,
        *,
        after_trouble_s: float,
        look_back_s: float = 0.0,
        harms: Callable[[Trouble], bool] = lambda _: True,
    ) -> float:
        """The deadline of something promised at `from_s`.

        A fault between `look_back_s` before that and the deadline moves it to `after_trouble_s` after the fault's end.
        """
        due_s = from_s + within_s
        for trouble in sorted(self.history.troubles, key=lambda trouble: trouble.begun_s):
            if harms(trouble) and trouble.begun_s <= due_s and trouble.ended_s >= from_s - look_back_s:
                due_s = max(due_s, trouble.ended_s + after_trouble_s)
        return due_s

    def last_attempt(self, run_id: str) -> Sequence[Seen]:
        """Its events as stored; empty if they could not be read."""
        replay = self.replays.get(run_id)
        return replay.events if replay else ()

    def _order_of_runs(self) -> dict[str, Order]:
        by_message = {order.message: order for order in self.history.orders}
        questions = (message for message in self.history.messages if message.role == "user")
        return {
            question.run_id: by_message[question.content] for question in questions if question.content in by_message
        }


def text_of(events: Sequence[Seen]) -> str:
    """The joined deltas."""
    return "".join(str(event.fields["text"]) for event in events if event.type == "message_delta")


def calls_of(facts: Facts, kind: str) -> Sequence[Call]:
    return [call for call in facts.history.calls if call.kind == kind]


def _grouped[T](items: Iterable[T], key: Callable[[T], str | None]) -> Mapping[str, Sequence[T]]:
    grouped: defaultdict[str, list[T]] = defaultdict(list)
    for item in items:
        name = key(item)
        if name is not None:
            grouped[name].append(item)
    return dict(grouped)
