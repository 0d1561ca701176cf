"""Through the Gateway API and a real proxy, streams arrive without buffering, complete, and can be resumed."""

import time
from collections.abc import AsyncIterator

import pytest
from chaos.client import PASSWORD
from mesh_common.ids import new_id
from mesh_dev.mesh_client import API, Event, MeshClient, events_of

from cluster.kubectl import eventually
from cluster.release import Release


@pytest.fixture
async def client(mesh: Release) -> AsyncIterator[MeshClient]:
    async with MeshClient(await mesh.url()) as client:
        # A proxy hears of the pods some seconds after they are ready, and answers 503 until then.
        await eventually("the gateway through its route", lambda: _is_reached(client), within_s=60)
        email = f"{new_id().hex}@example.com"
        (await client.register(email, PASSWORD)).raise_for_status()
        (await client.login(email, PASSWORD)).raise_for_status()
        yield client


async def _is_reached(client: MeshClient) -> bool:
    return (await client.http.get("/healthz")).is_success


@pytest.mark.short
async def test_chat_streams_token_by_token(client: MeshClient) -> None:
    message = "Hello. [[sim:itl=200]][[sim:reply=one two three four five six seven eight nine ten]]"

    times: dict[str, list[float]] = {}
    async with client.open_stream("/chatbot/chat/stream", {"message": message}) as (response, events):
        assert response.status_code == 200
        async for event in events:
            times.setdefault(event.type, []).append(time.monotonic())

    assert times["run_finished"]
    assert times["message_delta"][-1] - times["message_delta"][0] > 1.0


async def test_a_minute_of_streaming_with_a_long_silence_is_not_cut(client: MeshClient) -> None:
    words = " ".join(f"w{number}" for number in range(50))
    # A first token after 20 s would be too late for the agent.
    message = f"Slowly. [[sim:ttft=17000]][[sim:itl=1000]][[sim:reply={words}]]"
    begun_s = time.monotonic()

    async with client.open_stream("/chatbot/chat/stream", {"message": message}) as (_, events):
        seen = [event async for event in events]

    assert time.monotonic() - begun_s > 60
    assert seen[-1].type == "run_finished"
    assert _seqs(seen) == list(range(1, len(seen) + 1))


async def test_stream_goes_on_where_its_connection_was_cut(client: MeshClient) -> None:
    words = " ".join(f"w{number}" for number in range(30))
    message = f"Go on. [[sim:itl=100]][[sim:reply={words}]]"

    before: list[Event] = []
    async with client.open_stream("/chatbot/chat/stream", {"message": message}) as (_, events):
        async for event in events:
            before.append(event)
            if len(before) == 5:
                break
    headers = {"Last-Event-ID": before[-1].id}
    async with client.http.stream("GET", f"{API}/runs/{before[0].run_id}/events", headers=headers) as response:
        after = [event async for event in events_of(response)]

    assert after[-1].type == "run_finished"
    assert _seqs(before + after) == list(range(1, len(before + after) + 1))


def _seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]
