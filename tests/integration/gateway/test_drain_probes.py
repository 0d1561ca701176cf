"""Probes while the gateway drains: Kubernetes sends no new requests, but does not restart the pod either."""

import asyncio
from collections.abc import Awaitable

from fakes.gateway.fake_runs import FakeRun, answer_begin
from mesh.agent.v1 import agent_pb2
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import FakeMesh, read_frames, running_gateway

STREAM = "/api/v1/chatbot/chat/stream"


async def test_draining_gateway_is_unready_and_alive_while_a_stream_is_open(
    mesh: FakeMesh, valkey: EmbeddedValkey
) -> None:
    async def wait_in_the_middle(run: FakeRun) -> None:
        await answer_begin(run)
        await mesh.agent.release.wait()
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    mesh.agent.plan = wait_in_the_middle
    async with (
        running_gateway(mesh, valkey.url) as gateway,
        gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response,
        asyncio.TaskGroup() as group,
    ):
        frames = read_frames(response)
        await anext(frames)
        before = [(await gateway.http.get(path)).status_code for path in ("/readyz", "/healthz")]
        group.create_task(_done(gateway.process.drain()))
        await asyncio.sleep(0)
        during = [(await gateway.http.get(path)).status_code for path in ("/readyz", "/healthz")]
        mesh.agent.release.set()
        events = [frame.event async for frame in frames]

    assert before == [200, 200]
    assert during == [503, 200]
    assert events[-1] == "run_finished"


async def _done(work: Awaitable[None]) -> None:
    await work
