"""A run that is being started, whichever comes first: its events, its acknowledgement or a cut stream."""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from mesh.agent.v1 import agent_pb2
from mesh_admin.secrets import make_secrets
from mesh_common.errors import Unavailable
from mesh_common.events.model import RunEvent
from mesh_common.grpc.client import ServiceCalls
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.ids import RunId, new_id
from mesh_common.jwt import SigningKey
from mesh_gateway.clients.started_runs import MAX_UNREAD, ExpectedRun, StartedRuns

RUN = RunId(new_id())


@pytest.fixture
def started_runs() -> StartedRuns:
    def no_channel(_: str) -> grpc.aio.Channel:
        raise AssertionError("nobody was invited")

    return _started_runs(no_channel)


def _started_runs(open_channel: Callable[[str], grpc.aio.Channel]) -> StartedRuns:
    signer = ServiceTokenSigner("gateway", SigningKey.from_pem(make_secrets().service_keys["gateway"]))
    return StartedRuns(ServiceCalls("agent", signer), open_channel)


def _event(seq: int) -> agent_pb2.RunEvent:
    delta = agent_pb2.MessageDelta(message_id="m", text="a")
    return agent_pb2.RunEvent(run_id=str(RUN), attempt=1, seq=seq, message_delta=delta)


async def _until_cut(events: AsyncIterator[RunEvent]) -> list[int]:
    seqs: list[int] = []
    try:
        while True:
            seqs.append((await anext(events)).seq)
    except Unavailable:
        return seqs


async def test_what_came_before_a_cut_is_given_and_what_came_after_is_not() -> None:
    expected = ExpectedRun(RUN)
    expected.put(_event(1))
    expected.cut("stream")
    expected.put(_event(2))

    assert await _until_cut(expected.events()) == [1]


async def test_reader_that_is_too_far_behind_is_cut_where_it_has_no_gap() -> None:
    expected = ExpectedRun(RUN)
    for seq in range(1, MAX_UNREAD + 10):
        expected.put(_event(seq))

    assert await _until_cut(expected.events()) == list(range(1, MAX_UNREAD + 1))


async def test_run_acknowledged_on_a_closed_stream_is_cut_at_once(started_runs: StartedRuns) -> None:
    with started_runs.expecting(RUN) as expected:
        assert await _until_cut(started_runs.bind(expected, str(new_id()))) == []


async def test_certificates_that_cannot_be_read_just_now_end_one_try_and_nothing_else() -> None:
    tried: asyncio.Queue[str] = asyncio.Queue()

    def open_channel(address: str) -> grpc.aio.Channel:
        tried.put_nowait(address)
        raise ValueError("holds no certificate in PEM")

    started_runs = _started_runs(open_channel)
    watching = asyncio.ensure_future(started_runs.watch())
    started_runs.invite("10.0.0.1:1")
    await tried.get()

    started_runs.invite("10.0.0.2:1")

    async with asyncio.timeout(5):
        assert await tried.get() == "10.0.0.2:1"
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
