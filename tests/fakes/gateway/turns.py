"""Turns with an agent that is a list of events, and a protocol that writes one short line per event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mesh_common.errors import MeshError, NotFound
from mesh_common.events.model import MessageDelta, RunEvent, RunFinished, RunStarted, Usage
from mesh_common.ids import RunId, new_id
from mesh_common.subject import Subject
from mesh_gateway.domain import Run
from mesh_gateway.limits.rate_limit import Limit
from mesh_gateway.limits.stream_slots import OpenStreams
from mesh_gateway.request_record import Refusal, RequestRecord
from mesh_gateway.runs.order import RunOrder
from mesh_gateway.runs.ports import EventSource, OpenedRun, StreamEnd
from mesh_gateway.runs.position import EventPosition
from mesh_gateway.runs.turn import TurnBounds, Turns

RUN = RunId(new_id())
WHOLE = (RunStarted("t"), MessageDelta("m", "Hi"), RunFinished("stop", Usage()))


@dataclass
class ListedAgent:
    """The run `RUN` with these events. Without a terminal event it runs forever, unless it `is_cut`."""

    events: list[RunEvent] = field(default_factory=lambda: numbered(*WHOLE))
    refusal: MeshError | None = None
    is_cut: bool = False
    cancelled: list[RunId] = field(default_factory=list)

    @asynccontextmanager
    async def start_run(self, subject: Subject, order: RunOrder) -> AsyncIterator[OpenedRun]:
        del subject
        if self.refusal:
            raise self.refusal
        yield OpenedRun(order.run_id, "thread", EventSource(self._after(0)))

    @asynccontextmanager
    async def follow_run(
        self, subject: Subject, run_id: RunId, after: EventPosition | None
    ) -> AsyncIterator[OpenedRun]:
        del subject
        if self.refusal or self.is_cut:
            raise self.refusal or NotFound("There is no such run.")
        has_ended = bool(self.events) and self.events[-1].is_terminal
        yield OpenedRun(run_id, "thread", EventSource(self._after(after.seq if after else 0)), has_ended)

    async def run(self, subject: Subject, run_id: RunId) -> Run:
        raise NotImplementedError

    async def cancel_run(self, subject: Subject, run_id: RunId) -> Run:
        del subject
        self.cancelled.append(run_id)
        raise NotFound("There is no such run.")

    async def _after(self, seq: int) -> AsyncIterator[RunEvent]:
        for event in self.events[seq:]:
            yield event
        if not self.is_cut and not (self.events and self.events[-1].is_terminal):
            await asyncio.Event().wait()


@dataclass
class CountedLimits:
    charged: list[tuple[str, str]] = field(default_factory=list)

    async def charge(self, limit: Limit, identity: str, record: RequestRecord) -> None:
        self.charged.append((limit.name, identity))
        record.headers["RateLimit"] = "counted"


class LineEncoder:
    """Cannot express the start of a run."""

    media_type = "text/x-lines"

    def encode(self, event: RunEvent) -> bytes:
        return b"" if isinstance(event.body, RunStarted) else f"{event.seq} {event.body.type}\n".encode()

    def ping(self) -> bytes:
        return b"ping\n"

    def end(self, end: StreamEnd) -> bytes:
        return f"{end.value}\n".encode()


class LineDialect:
    """Renders every invalid request with one status."""

    media_type = "text/x-lines"

    def render(self, refusal: Refusal, record: RequestRecord) -> tuple[int, bytes]:
        status = 400 if 400 <= refusal.status < 500 else refusal.status
        return status, f"{refusal.reason} {record.trace_id}".encode()


def numbered(*bodies: RunStarted | MessageDelta | RunFinished) -> list[RunEvent]:
    return [RunEvent(RUN, 1, seq, body) for seq, body in enumerate(bodies, 1)]


def turns_of(agent: ListedAgent, limits: CountedLimits | None = None, *, max_per_user: int = 10) -> Turns:
    streams = OpenStreams(max_open=10, max_per_user=max_per_user, is_revoked=lambda _: False)
    return Turns(agent, limits or CountedLimits(), streams, TurnBounds(100, 5.0, 30.0))


def a_record() -> RequestRecord:
    return RequestRecord("ab" * 16, 0.0, LineDialect())
