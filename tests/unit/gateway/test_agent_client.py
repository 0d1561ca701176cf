"""When a run counts as acknowledged: grpc.aio may lose the metadata of a stream that ended at once."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from mesh.agent.v1 import agent_pb2
from mesh_admin.secrets import make_secrets
from mesh_common.errors import Internal, NotFound
from mesh_common.grpc.client import ServiceCalls
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.ids import RunId, new_id
from mesh_common.jwt import SigningKey
from mesh_gateway.clients.agent import AgentClient
from mesh_gateway.clients.started_runs import StartedRuns
from mesh_gateway.runs.order import RunOrder
from support.subjects import some_subject

RUN = RunId(new_id())
USER = some_subject()


class FakeBackend:
    """Its streams have no metadata: only responses, then an error or the end. `follows` has streams of its own."""

    def __init__(
        self, *responses: Any, error: Exception | None = None, follows: Mapping[str, str] | None = None
    ) -> None:
        self._responses = responses
        self._error = error
        self._follows = follows
        self._metadata: Mapping[str, str] = {}

    @asynccontextmanager
    async def stream(self, _method: Any, request: Any, **_: Any) -> AsyncIterator["FakeBackend"]:
        if self._follows and isinstance(request, agent_pb2.FollowRunRequest):
            self._metadata = self._follows
        yield self

    async def initial_metadata(self) -> Mapping[str, str]:
        return self._metadata

    async def __aiter__(self) -> AsyncIterator[Any]:
        for response in self._responses:
            yield response
        if self._error:
            raise self._error


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel("ipv4:127.0.0.1:1") as channel:  # noqa: TID251 - nothing is called
        yield channel


def _client(backend: Any, channel: grpc.aio.Channel) -> AgentClient:
    return AgentClient(backend, channel, _nobody_shares(), start_timeout_s=5)


def _nobody_shares() -> StartedRuns:
    def no_channel(_: str) -> grpc.aio.Channel:
        raise AssertionError("nobody was invited")

    return StartedRuns(
        ServiceCalls(
            "agent", ServiceTokenSigner("gateway", SigningKey.from_pem(make_secrets().service_keys["gateway"]))
        ),
        no_channel,
    )


async def test_followed_stream_without_anything_is_empty(channel: grpc.aio.Channel) -> None:
    async with _client(FakeBackend(), channel).follow_run(USER, RUN, None) as opened:
        events = [event async for event in opened.events]

    assert (opened.run_id, events) == (RUN, [])


async def test_started_run_that_was_over_before_it_was_looked_at_is_followed(channel: grpc.aio.Channel) -> None:
    """Its events are on a shared stream, and grpc.aio has lost the metadata of its call."""
    backend = FakeBackend(follows={"mesh-run-id": str(RUN), "mesh-thread-id": "thread", "mesh-run-has-ended": "true"})

    async with _client(backend, channel).start_run(USER, RunOrder(RUN, "Hi", {})) as opened:
        assert (opened.run_id, opened.thread_id, opened.has_ended) == (RUN, "thread", True)


async def test_started_stream_with_events_and_no_metadata_is_a_fault(channel: grpc.aio.Channel) -> None:
    event = agent_pb2.RunEvent(run_id=str(RUN), attempt=1, seq=1, run_started=agent_pb2.RunStarted(thread_id="thread"))

    with pytest.raises(Internal):
        async with _client(FakeBackend(agent_pb2.StartRunResponse(event=event)), channel).start_run(
            USER, RunOrder(RUN, "Hi", {})
        ):
            pass


async def test_error_instead_of_metadata_is_raised_at_opening(channel: grpc.aio.Channel) -> None:
    backend = FakeBackend(error=NotFound("There is no such run."))

    with pytest.raises(NotFound):
        async with _client(backend, channel).follow_run(USER, RUN, None):
            pass
