"""A run's stream as a state machine: the events that the agent numbers and keeps, and those a gateway's client gets.

The attempt's log, its frames, both conversions and the gateway's re-following are real. The network between them is a
model that can fail anywhere. A client may disconnect and return with the id of the last event it saw.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fakes.agent.loop_time import JumpingLoop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.runs import Usage
from mesh_agent.events.log import EventLog
from mesh_agent.events.storage import decode_frames, encode_frames
from mesh_agent.lease import HeldLease
from mesh_common.errors import Unavailable
from mesh_common.events.model import MessageDelta, Position, RunEvent, RunFinished, RunRestarted, RunStarted
from mesh_common.events.wire import event_from_pb, event_pb
from mesh_common.ids import RunId, ThreadId, new_id
from mesh_common.subject import Subject
from mesh_gateway.runs.follow import follow_to_end
from mesh_gateway.runs.ports import EventSource, OpenedRun
from mesh_gateway.runs.position import EventPosition
from support.subjects import some_subject

RUN, THREAD, USER = RunId(new_id()), ThreadId(new_id()), some_subject()


class Agents:
    """All replicas as one follower sees them: a live log, or the frames of an ended run."""

    def __init__(self) -> None:
        self.log = self._log(1)
        self.frames: bytes | None = None
        self.cuts = asyncio.Event()

    def _log(self, attempt: int) -> EventLog:
        log = EventLog(Claim(RUN, THREAD, USER, 1, attempt, attempt, "Hi", None, {}), HeldLease(math.inf, 6.0))
        log.append(RunStarted(str(THREAD)) if attempt == 1 else RunRestarted(str(THREAD), ()))
        return log

    def take_over(self) -> None:
        self.log.close()
        self.log = self._log(self.log.claim.attempt + 1)

    def end(self) -> None:
        terminal = RunEvent(RUN, self.log.claim.attempt, len(self.log.events) + 1, RunFinished("stop", Usage()))
        self.frames = encode_frames([*self.log.events, terminal])
        self.log.finish(terminal)

    def cut(self) -> None:
        self.cuts.set()
        self.cuts = asyncio.Event()

    @asynccontextmanager
    async def follow_run(
        self, subject: Subject, run_id: RunId, after: EventPosition | None
    ) -> AsyncIterator[OpenedRun]:
        assert (subject, run_id) == (USER, RUN)
        yield OpenedRun(RUN, str(THREAD), EventSource(self._events(after)))

    async def _events(self, after: EventPosition | None) -> AsyncIterator[RunEvent]:
        position = Position(after.attempt, after.seq) if after else Position()
        cuts = self.cuts
        async for event in self._source(position):
            yield event_from_pb(event_pb(event))
            if cuts.is_set():
                raise Unavailable("cut")

    async def _source(self, after: Position) -> AsyncGenerator[RunEvent]:
        if self.frames is not None:
            for event in decode_frames(RUN, self.frames):
                if event.seq > after.seq_within(event.attempt):
                    yield event
            return
        async for event in self.log.follow(after.seq_within(self.log.claim.attempt)):
            yield event


class Client:
    """Reads concurrently with the run, and keeps the events it saw."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self.seen: list[RunEvent] = []
        self.task: asyncio.Task[None] | None = None

    async def come(self) -> None:
        self.task = asyncio.ensure_future(self._read())
        await settle()

    async def leave(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])
        self.task = None

    async def _read(self) -> None:
        after = EventPosition.of(self.seen[-1]) if self.seen else None
        async with self._agents.follow_run(USER, RUN, after) as opened:
            async for event in follow_to_end(self._agents, USER, opened, after):
                self.seen.append(event)

    @property
    def is_done(self) -> bool:
        return bool(self.seen) and self.seen[-1].is_terminal


async def settle() -> None:
    """Lets all tasks run until they are idle, including the pauses between retries."""
    await asyncio.sleep(60)


class Stream(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=JumpingLoop)
        self.agents = self.do(self._made())
        self.clients = [Client(self.agents) for _ in range(2)]
        self.appended = 0

    async def _made(self) -> Agents:
        return Agents()

    def do[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @precondition(lambda self: self.agents.frames is None)
    @rule(pieces=st.integers(1, 4))
    def say(self, pieces: int) -> None:
        self.do(self._say(pieces))

    async def _say(self, pieces: int) -> None:
        for _ in range(pieces):
            self.appended += 1
            self.agents.log.append(MessageDelta("m", f"{self.appended} "))
        await settle()

    @precondition(lambda self: self.agents.frames is None)
    @rule()
    def owner_dies(self) -> None:
        self.do(self._act(self.agents.take_over))

    @precondition(lambda self: self.agents.frames is None)
    @rule()
    def run_ends(self) -> None:
        self.do(self._act(self.agents.end))

    @rule()
    def connections_are_cut(self) -> None:
        self.do(self._act(self.agents.cut))

    async def _act(self, what: Any) -> None:
        what()
        await settle()

    @rule(index=st.integers(0, 1))
    def client_comes(self, index: int) -> None:
        client = self.clients[index]
        if client.task is None and not client.is_done:
            self.do(client.come())

    @rule(index=st.integers(0, 1))
    def client_leaves(self, index: int) -> None:
        if self.clients[index].task is not None:
            self.do(self.clients[index].leave())

    @invariant()
    def nothing_is_missed_or_seen_twice(self) -> None:
        for client in self.clients:
            places = [(event.attempt, event.seq) for event in client.seen]
            assert places == sorted(set(places))
            for attempt in {attempt for attempt, _ in places}:
                seqs = [seq for current, seq in places if current == attempt]
                assert seqs == list(range(1, len(seqs) + 1))

    @invariant()
    def who_stays_has_the_whole_current_attempt(self) -> None:
        current = self.agents.log
        for client in self.clients:
            if client.task is None:
                continue
            here = [event.seq for event in client.seen if event.attempt == current.claim.attempt]
            assert here == [event.seq for event in current.events]

    @invariant()
    def there_is_one_end_and_it_is_last(self) -> None:
        for client in self.clients:
            assert not any(event.is_terminal for event in client.seen[:-1])

    def teardown(self) -> None:
        for client in self.clients:
            if client.task is not None:
                self.do(client.leave())
        self.runner.close()


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=150, stateful_step_count=20, deadline=None, print_blob=True)
