"""One connection that streams chat turns, as cheap as a client can be: it shares the machine with what it measures.

Frames are looked at when a turn is over. While it runs, only the times of the data that came are kept.
"""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Final, Self, cast

import orjson

_PATH: Final = "/api/v1/chatbot/chat/stream"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_FIRST_TOKEN: Final = b"event: message_delta"
_FRAME_ID: Final = re.compile(rb"^id: [0-9a-f-]+:(\d+):(\d+)\r?$", re.MULTILINE)
_ANSWER: Final = re.compile(rb"^event: message_completed\r?\ndata: (.*?)\r?$", re.MULTILINE)


@dataclass(slots=True)
class Turn:
    """Times are of this process's monotonic clock; 0.0 is never."""

    due_s: float
    sent_s: float
    first_token_s: float = 0.0
    ended_s: float = 0.0
    arrivals_s: list[float] = field(default_factory=list)
    """Of the data, from the first token on."""
    status: int = 0
    lost_frames: int = 0
    tokens: int = 0
    end: str = "cut"
    """The type of the last event, or why there is none."""

    @property
    def has_succeeded(self) -> bool:
        return self.end == "run_finished" and not self.lost_frames


class TurnConnection(asyncio.Protocol):
    """One turn at a time; `closed` once the server has hung up."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._data: list[bytes] = []
        self._tail = b""
        self._turn: Turn | None = None
        self._done: asyncio.Future[None] | None = None
        self.closed = False

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(f"{host}:{port}"), host, port)
        return connection

    async def run(self, token: str, body: dict[str, str], due_s: float, timeout_s: float) -> Turn:
        """One turn from its request to its last byte, or to `timeout_s`."""
        assert self._transport is not None  # noqa: S101 - it is connected
        self._data, self._tail = [], b""
        self._done = asyncio.get_running_loop().create_future()
        self._turn = turn = Turn(due_s, time.monotonic())
        self._transport.write(_request(self._host, token, orjson.dumps(body)))
        try:
            async with asyncio.timeout(timeout_s):
                await self._done
        except TimeoutError:
            turn.end = "timeout"
            self.close()
        turn.ended_s = time.monotonic()
        _judge(turn, b"".join(self._data))
        return turn

    def close(self) -> None:
        if self._transport:
            self._transport.close()
        self.closed = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport by type.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        turn = self._turn
        if turn is None or self._done is None or self._done.done():
            return
        self._data.append(data)
        joined = self._tail + data
        if turn.first_token_s:
            turn.arrivals_s.append(time.monotonic())
        elif _FIRST_TOKEN in joined:
            turn.first_token_s = time.monotonic()
        self._tail = joined[-len(_FIRST_TOKEN) :]
        if joined.endswith(_LAST_CHUNK) or _is_whole_refusal(joined):
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True
        if self._done and not self._done.done():
            self._done.set_result(None)


def _request(host: str, token: str, body: bytes) -> bytes:
    head = (
        f"POST {_PATH} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _is_whole_refusal(data: bytes) -> bool:
    """An answer with a length: a problem, not a stream."""
    head, separator, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE) if separator else None
    return found is not None and len(body) >= int(found[1])


def _judge(turn: Turn, data: bytes) -> None:
    if data.startswith(b"HTTP/1.1 "):
        turn.status = int(data[9:12])
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
