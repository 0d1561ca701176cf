"""Eval as a process of its own."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh.eval.v1 import eval_pb2_grpc
from mesh_common.errors import Unavailable
from mesh_common.grpc.client import open_channel
from mesh_common.ids import new_id
from mesh_eval.settings import EvalSettings
from simulator.client import SimulatorAdmin
from support.eval import EvalClient, new_subject, submission
from support.mesh import TestMesh
from support.net import free_port


@asynccontextmanager
async def _process(
    test_mesh: TestMesh, settings: EvalSettings
) -> AsyncIterator[tuple[asyncio.subprocess.Process, EvalClient]]:
    """A process that answers calls. If it still runs at the end, it is killed."""
    port = free_port()
    environment = test_mesh.environment("eval") | {
        "EVAL_GRPC_PORT": str(port),
        "EVAL_DATABASE_URL": settings.database_url.get_secret_value(),
        "EVAL_OPENAI_BASE_URL": settings.openai_base_url,
        "EVAL_JUDGE_MODEL": "sim-small",
        # Short, so that a lease expires within the time of a test.
        "EVAL_RUN_TIMEOUT_S": "2",
        "EVAL_DRAIN_S": "2",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mesh_eval", "serve", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            client = EvalClient(eval_pb2_grpc.EvalServiceStub(channel), test_mesh)
            await _answers(client)
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(client: EvalClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await client.scores(new_subject(), new_id())
            except Unavailable:
                continue
            return


async def test_a_run_whose_judge_was_killed_is_judged_by_the_next(
    test_mesh: TestMesh, settings_alone: EvalSettings, simulator: SimulatorAdmin
) -> None:
    subject, request = new_subject(), submission()
    await simulator.put_rules([{"match": {"anywhere": request.answer, "times": 1}, "action": {"fault": "hang"}}])
    async with _process(test_mesh, settings_alone) as (process, client):
        await client.submit(subject, request)
        await _judging(simulator)
        process.kill()

    async with _process(test_mesh, settings_alone) as (_, client):
        found = await client.judged(subject, request.run_id)

    assert len(found) == 5


async def test_a_run_that_is_being_judged_at_sigterm_is_given_back_and_the_process_ends_well(
    test_mesh: TestMesh, settings_alone: EvalSettings, simulator: SimulatorAdmin
) -> None:
    subject, request = new_subject(), submission()
    await simulator.put_rules([{"match": {"anywhere": request.answer, "times": 1}, "action": {"fault": "hang"}}])
    async with _process(test_mesh, settings_alone) as (process, client):
        await client.submit(subject, request)
        await _judging(simulator)
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 20)

    async with _process(test_mesh, settings_alone) as (_, client):
        found = await client.judged(subject, request.run_id)

    assert code == 0
    assert len(found) == 5


async def _judging(simulator: SimulatorAdmin) -> None:
    """Waits until the judge has received the question that hangs."""
    async with asyncio.timeout(30):
        while not any(rule["hits"] for rule in await simulator.rules()):
            pass
