"""A peer that hangs keeps its connections open but sends nothing. Callers notice within the time of a takeover."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh.eval.v1 import eval_pb2, eval_pb2_grpc
from mesh_admin.secrets import SecretSet
from mesh_common.errors import Unavailable
from mesh_common.grpc.client import ServerStream, ServiceCalls, open_channel
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.jwt import SigningKey
from support.frozen_peer import open_peer

# Ping interval and timeout add up to 4.5 s; the rest is for busy machines.
NOTICED_WITHIN_S = 8.0
# Longer than ping interval and timeout, and longer than until the third ping, after which gRPC stops by default.
SILENT_S = 9.0


def _calls(secrets: SecretSet, callee: str) -> ServiceCalls:
    return ServiceCalls(callee, ServiceTokenSigner("gateway", SigningKey.from_pem(secrets.service_keys["gateway"])))


@asynccontextmanager
async def _followed(
    secrets: SecretSet, channel: grpc.aio.Channel
) -> AsyncIterator[AsyncIterator[agent_pb2.FollowRunResponse]]:
    """A stream whose first event has arrived."""
    stub = agent_pb2_grpc.AgentServiceStub(channel)
    stream: ServerStream[Any]
    async with _calls(secrets, "agent").stream(stub.FollowRun, agent_pb2.FollowRunRequest(), timeout_s=None) as stream:
        events = aiter(stream)
        await anext(events)
        yield events


async def test_stream_of_a_peer_that_freezes_is_cut(secrets: SecretSet, tmp_path: Path) -> None:
    async with (
        open_peer(secrets, tmp_path) as peer,
        open_channel(f"ipv4:127.0.0.1:{peer.port}") as channel,
        _followed(secrets, channel) as events,
    ):
        peer.freeze()
        started_s = time.monotonic()
        with pytest.raises(Unavailable):
            await anext(events)
        took_s = time.monotonic() - started_s

    assert took_s < NOTICED_WITHIN_S


@pytest.mark.nightly
async def test_stream_of_a_peer_that_only_thinks_is_left_alone(secrets: SecretSet, tmp_path: Path) -> None:
    async with (
        open_peer(secrets, tmp_path) as peer,
        open_channel(f"ipv4:127.0.0.1:{peer.port}") as channel,
        _followed(secrets, channel) as events,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENT_S):
                await anext(events)


async def test_peer_that_freezes_after_a_long_silence_is_noticed_as_well(secrets: SecretSet, tmp_path: Path) -> None:
    async with (
        open_peer(secrets, tmp_path) as peer,
        open_channel(f"ipv4:127.0.0.1:{peer.port}") as channel,
        _followed(secrets, channel) as events,
        asyncio.TaskGroup() as group,
    ):
        cut = group.create_task(_cut_at_s(events))
        await asyncio.wait({cut}, timeout=SILENT_S)
        assert not cut.done()
        peer.freeze()
        frozen_at_s = time.monotonic()

    assert cut.result() - frozen_at_s < NOTICED_WITHIN_S


async def test_frozen_replica_is_not_asked_again_until_it_is_back(secrets: SecretSet, tmp_path: Path) -> None:
    request = eval_pb2.ListScoresRequest()
    async with (
        open_peer(secrets, tmp_path, "eval") as frozen,
        open_peer(secrets, tmp_path, "eval") as whole,
        open_channel(f"ipv4:127.0.0.1:{frozen.port},127.0.0.1:{whole.port}") as channel,
    ):
        stub = eval_pb2_grpc.EvalServiceStub(channel)
        calls = _calls(secrets, "eval")
        for _ in range(4):
            await calls.unary(stub.ListScores, request, timeout_s=5)
        frozen.freeze()
        started_s = time.monotonic()
        # One of the two calls goes to the frozen replica. It is aborted and retried elsewhere, within its deadline.
        await asyncio.gather(*(calls.unary(stub.ListScores, request, timeout_s=NOTICED_WITHIN_S) for _ in range(2)))
        noticed_s = time.monotonic() - started_s
        started_s = time.monotonic()
        for _ in range(50):
            await calls.unary(stub.ListScores, request, timeout_s=5)
        served_s = time.monotonic() - started_s
        frozen.thaw()

    assert noticed_s > 1
    assert served_s < 1


async def _cut_at_s(events: AsyncIterator[agent_pb2.FollowRunResponse]) -> float:
    with pytest.raises(Unavailable):
        await anext(events)
    return time.monotonic()
