"""How a run counts as acknowledged: grpc.aio may lose the metadata of a stream that ended at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from mesh_common.errors import Internal, NotFound
from mesh_common.ids import RunId, UserId, new_id
from mesh_gateway.clients.agent import AgentClient
from mesh_gateway.events import RunOrder

RUN = RunId(new_id())
USER = UserId(new_id())


class FakeBackend:
    """Each stream comes without metadata: its responses, then an error or the end."""

    def __init__(self, *responses: Any, error: Exception | None = None) -> None:
        self._responses = responses
        self._error = error

    @asynccontextmanager
    async def stream(self, *_: Any, **__: Any) -> AsyncIterator["FakeBackend"]:
        yield self

    async def initial_metadata(self) -> dict[str, str]:
        return {}

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
    return AgentClient(backend, channel, start_timeout_s=5)


async def test_followed_stream_without_anything_is_empty(channel: grpc.aio.Channel) -> None:
    async with _client(FakeBackend(), channel).follow_run(USER, RUN, None) as opened:
        events = [event async for event in opened.events]

    assert (opened.run_id, events) == (RUN, [])


async def test_started_stream_without_anything_is_a_fault(channel: grpc.aio.Channel) -> None:
    with pytest.raises(Internal):
        async with _client(FakeBackend(), channel).start_run(USER, RunOrder(RUN, "Hi", {})):
            pass


async def test_error_instead_of_metadata_is_raised_at_opening(channel: grpc.aio.Channel) -> None:
    backend = FakeBackend(error=NotFound("There is no such run."))

    with pytest.raises(NotFound):
        async with _client(backend, channel).follow_run(USER, RUN, None):
            pass
