"""Sends one answer chunk by chunk, at its pace and to its planned end, and counts the tokens sent."""

from dataclasses import dataclass
from typing import Literal

from simulator.http_server import Connection
from simulator.pacing import Clock, Pace
from simulator.stats import RequestRecord, Stats
from simulator.wire import DONE, Frame

Ending = Literal["finish", "hang", "cut", "cut_after_finish", "end_early", "garbage"]

# Tokens per write when unpaced, about 50 kB, which is near the high-water mark of a transport. This limits the buffer
# for a client that does not read 100,000 tokens, and the count for a client that has disconnected.
_SLAB_TOKENS = 256
GARBAGE = b'\xff\xfe{"choices": [{"delta": <<<\x00 not json'


@dataclass(frozen=True, slots=True)
class Script:
    """The content of a stream: the role, the deltas and the ending."""

    frame: Frame
    first_delta: bytes
    deltas: list[bytes]
    tail: bytes
    """Finish chunk and usage, without `[DONE]`."""
    ending: Ending
    fault: str | None
    done: bytes = DONE
    """What follows the tail of a stream that finishes."""


class Stream:
    """An active stream. It lives until its script ends or its client disconnects."""

    def __init__(
        self, connection: Connection, script: Script, pace: Pace, clock: Clock, stats: Stats, record: RequestRecord
    ) -> None:
        self._connection = connection
        self._script = script
        self._pace = pace
        self._clock = clock
        self._stats = stats
        self._record = record
        self._sent = 0
        self._is_over = False
        self._due_s = 0.0
        # Each stream has its own offset in the jitter table; otherwise all would stall together.
        self._jitter_offset = record.id * 37

    def start(self) -> None:
        self._stats.streams_open += 1
        self._connection.on_gone = self._client_left
        if not self._script.deltas and self._script.ending == "hang":
            return
        if self._pace.ttft_s == 0:
            self._begin()
        else:
            self._clock.at(self._clock.now_s() + self._pace.ttft_s, self._begin)

    def _begin(self) -> None:
        if self._is_over or self._connection.is_gone:
            return
        self._due_s = self._clock.now_s()
        role = self._script.frame.deltas((self._script.first_delta,))
        if self._pace.itl_s == 0:
            self._begin_burst(role)
        else:
            self._send_token(role)

    # --- unpaced

    def _begin_burst(self, role: bytes) -> None:
        self._connection.on_writable = self._burst
        data = role + self._next_slab()
        if self._sent == len(self._script.deltas):
            self._end(data, is_begun=False)
        else:
            self._connection.start_stream(data)
            self._burst()

    def _burst(self) -> None:
        while not self._connection.is_paused and not self._is_over:
            if self._connection.is_gone:
                return
            data = self._next_slab()
            if self._sent == len(self._script.deltas):
                self._end(data, is_begun=True)
                return
            self._connection.stream(data)

    def _next_slab(self) -> bytes:
        slab = self._script.deltas[self._sent : self._sent + _SLAB_TOKENS]
        self._count(len(slab))
        return self._script.frame.deltas(slab) if slab else b""

    # --- paced

    def _tick(self) -> None:
        if self._is_over or self._connection.is_gone:
            return
        if self._connection.is_paused:
            self._connection.on_writable = self._catch_up
            return
        self._send_token(b"")

    def _catch_up(self) -> None:
        self._connection.on_writable = None
        self._tick()

    def _send_token(self, before: bytes) -> None:
        script, index = self._script, self._sent
        data = before
        if index < len(script.deltas):
            data += script.frame.deltas((script.deltas[index],))
            self._count(1)
        if self._sent >= len(script.deltas):
            self._end(data, is_begun=not before)
            return
        if before:
            self._connection.start_stream(data)
        else:
            self._connection.stream(data)
        # Due times are absolute, so that a late token does not delay all later ones.
        self._due_s += self._pace.gap_s(self._jitter_offset + index)
        self._clock.at(self._due_s, self._tick)

    # --- the end

    def _end(self, data: bytes, *, is_begun: bool) -> None:
        data += self._ending()
        if not is_begun:
            self._connection.start_stream(data)
        elif data:
            self._connection.stream(data)
        match self._script.ending:
            case "hang":
                self._connection.on_writable = None
            case "cut" | "cut_after_finish":
                self._close("fault")
                self._connection.cut()
            case "end_early" | "garbage":
                self._close("fault")
                self._connection.end_stream()
            case "finish":
                self._close("completed")
                self._connection.end_stream()

    def _ending(self) -> bytes:
        match self._script.ending:
            case "finish":
                return self._script.tail + self._script.done
            case "cut_after_finish":
                return self._script.tail
            case "garbage":
                return b"data: " + GARBAGE + b"\n\n"
            case "hang" | "cut" | "end_early":
                return b""

    def _close(self, outcome: Literal["completed", "fault"]) -> None:
        self._is_over = True
        self._stats.streams_open -= 1
        self._stats.end(self._record, outcome, self._script.fault)

    def _client_left(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._stats.streams_open -= 1
            self._stats.end(self._record, "client_left", self._script.fault)

    def _count(self, tokens: int) -> None:
        self._sent += tokens
        self._stats.sent(self._record, tokens)
