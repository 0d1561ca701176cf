"""One connection that streams chat turns.

Frames are parsed after the turn has ended. While it runs, only the arrival times of the data are recorded.
"""

import re
import time
from dataclasses import dataclass, field
from typing import Final, override

import orjson

from bench.connection import Connection, is_whole, post, status_of

_PATH: Final = "/api/v1/chatbot/chat/stream"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_FIRST_TOKEN: Final = b"event: message_delta"
_FRAME_ID: Final = re.compile(rb"^id: [0-9a-f-]+:(\d+):(\d+)\r?$", re.MULTILINE)
_ANSWER: Final = re.compile(rb"^event: message_completed\r?\ndata: (.*?)\r?$", re.MULTILINE)


@dataclass(slots=True)
class Turn:
    """Times are from this process's monotonic clock; 0.0 means never."""

    due_s: float
    sent_s: float
    first_token_s: float = 0.0
    ended_s: float = 0.0
    arrivals_s: list[float] = field(default_factory=list)
    """Arrival times of data from the first token on."""
    status: int = 0
    lost_frames: int = 0
    tokens: int = 0
    end: str = "cut"
    """The type of the last event, or the reason why there is none."""

    @property
    def has_succeeded(self) -> bool:
        return self.end == "run_finished" and not self.lost_frames


class TurnConnection(Connection):
    """Streams one turn at a time."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self._tail = b""
        self._turn = Turn(0.0, 0.0)

    async def run(self, token: str, body: dict[str, str], due_s: float, timeout_s: float) -> Turn:
        """Runs one turn, from its request to its last byte or until `timeout_s`."""
        self._tail = b""
        self._turn = turn = Turn(due_s, time.monotonic())
        request = post(self.host, _PATH, "application/json", orjson.dumps(body), token=token)
        try:
            await self.ask(request, timeout_s)
        except TimeoutError:
            turn.end = "timeout"
        turn.ended_s = time.monotonic()
        _judge(turn, self.answer)
        return turn

    @override
    def ends_with(self, data: bytes) -> bool:
        joined = self._tail + data
        if self._turn.first_token_s:
            self._turn.arrivals_s.append(time.monotonic())
        elif _FIRST_TOKEN in joined:
            self._turn.first_token_s = time.monotonic()
        self._tail = joined[-len(_FIRST_TOKEN) :]
        # An answer with a content-length is a problem document, not a stream.
        return joined.endswith(_LAST_CHUNK) or is_whole(joined)


def _judge(turn: Turn, data: bytes) -> None:
    turn.status = status_of(data)
    if turn.status != 200:  # noqa: PLR2004 - OK
        turn.end = turn.end if turn.end == "timeout" else f"status {turn.status}"
        return
    events = re.findall(rb"^event: (\w+)", data, re.MULTILINE)
    if events and turn.end != "timeout":
        turn.end = events[-1].decode()
    seqs = [int(seq) for _, seq in _FRAME_ID.findall(data)]
    turn.lost_frames = max(seqs, default=0) - len(set(seqs))
    answer = _ANSWER.search(data)
    turn.tokens = len(orjson.loads(answer[1])["content"].split()) if answer else 0
