"""Background runs: started, listed by status, and waited for."""

import asyncio
from http import HTTPStatus

import httpx
import pytest
from fakes.gateway.fake_runs import FakeRun, answer_begin
from mesh.agent.v1 import agent_pb2
from mesh_common.errors import Conflict, Unavailable
from mesh_common.ids import new_id
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, running_gateway

LIMIT_S = 10.0


async def _runs_path(gateway: Client, user: dict[str, str]) -> str:
    created = await gateway.http.post("/api/v1/threads", json={}, headers=user)
    return f"/api/v1/threads/{created.json()['id']}/runs"


async def _started(gateway: Client, user: dict[str, str]) -> FakeRun:
    """A run that has started and waits for `release`."""

    async def begin_and_wait(run: FakeRun) -> None:
        await answer_begin(run)
        await gateway.mesh.agent.release.wait()
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    gateway.mesh.agent.plan = begin_and_wait
    response = await gateway.http.post(await _runs_path(gateway, user), json={"message": "Hi"}, headers=user)
    assert response.status_code == HTTPStatus.ACCEPTED, response.text
    return gateway.mesh.agent.runs[response.json()["run_id"]]


async def test_run_in_the_background_is_accepted_with_its_address(gateway: Client) -> None:
    user = gateway.as_user()
    path = await _runs_path(gateway, user)
    body = {"message": "Hi", "model": "sim", "metadata": {"a": "b"}, "multitask": "interrupt", "unknown": 1}

    response = await gateway.http.post(path, json=body, headers={**user, "Idempotency-Key": "k-1"})

    (order,) = gateway.mesh.agent.started
    assert response.status_code == HTTPStatus.ACCEPTED
    assert response.headers["location"] == f"/api/v1/runs/{order.run_id}"
    assert response.json() == {"run_id": order.run_id, "thread_id": path.split("/")[4]}
    assert (order.message, order.model, dict(order.metadata)) == ("Hi", "sim", {"a": "b"})
    assert order.multitask == agent_pb2.MULTITASK_INTERRUPT
    assert order.idempotency_key == "k-1"


async def test_run_in_the_background_is_not_followed_and_goes_on(gateway: Client) -> None:
    user = gateway.as_user()
    agent = gateway.mesh.agent

    run = await _started(gateway, user)

    async with asyncio.timeout(LIMIT_S):
        await agent.follow_ended.wait()
    assert agent.started[0].on_disconnect == agent_pb2.ON_DISCONNECT_CONTINUE
    assert not run.has_ended
    agent.release.set()
    ended = await gateway.http.get(f"/api/v1/runs/{run.id}", params={"wait_s": LIMIT_S}, headers=user)
    assert ended.json()["status"] == "succeeded"


async def test_disconnecting_means_nothing_to_a_run_in_the_background(gateway: Client) -> None:
    user = gateway.as_user()
    body = {"message": "Hi", "on_disconnect": "cancel"}

    response = await gateway.http.post(await _runs_path(gateway, user), json=body, headers=user)

    assert response.status_code == HTTPStatus.ACCEPTED
    assert gateway.mesh.agent.started[0].on_disconnect == agent_pb2.ON_DISCONNECT_CONTINUE


async def test_runs_in_the_background_take_no_streams(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url, max_streams_per_user=1, max_open_streams=1) as gateway:
        user = gateway.as_user()
        runs = [await _started(gateway, user) for _ in range(3)]

    assert len({run.id for run in runs}) == 3


async def test_run_in_the_background_counts_against_the_chat_limit(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url, chat_limit_per_minute=1) as gateway:
        user = gateway.as_user()
        path = await _runs_path(gateway, user)
        first = await gateway.http.post(path, json={"message": "Hi"}, headers=user)
        second = await gateway.http.post(path, json={"message": "Hi"}, headers=user)

    assert (first.status_code, second.status_code) == (202, 429)
    assert second.headers["retry-after"]


async def test_refused_run_in_the_background_is_a_problem(gateway: Client) -> None:
    user = gateway.as_user()
    path = await _runs_path(gateway, user)
    gateway.mesh.agent.error = Conflict("The thread has a run.", reason="THREAD_BUSY")
    busy = await gateway.http.post(path, json={"message": "Hi", "multitask": "reject"}, headers=user)
    gateway.mesh.agent.error = Unavailable("Too many wait.", reason="TOO_MANY_PENDING_RUNS", retry_after_s=7)

    full = await gateway.http.post(path, json={"message": "Hi"}, headers=user)

    assert (busy.status_code, busy.json()["reason"]) == (409, "THREAD_BUSY")
    assert (full.status_code, full.headers["retry-after"]) == (503, "7")


@pytest.mark.parametrize("body", [{"message": "Hi", "multitask": "merge"}, {"message": ""}, {}])
async def test_bad_body_starts_nothing(gateway: Client, body: dict[str, str]) -> None:
    user = gateway.as_user()

    response = await gateway.http.post(await _runs_path(gateway, user), json=body, headers=user)

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert gateway.mesh.agent.started == []


@pytest.mark.parametrize(
    ("strategy", "number"),
    [
        ("enqueue", agent_pb2.MULTITASK_ENQUEUE),
        ("reject", agent_pb2.MULTITASK_REJECT),
        ("interrupt", agent_pb2.MULTITASK_INTERRUPT),
        ("rollback", agent_pb2.MULTITASK_ROLLBACK),
    ],
)
async def test_strategy_reaches_the_agent(gateway: Client, strategy: str, number: int) -> None:
    user = gateway.as_user()
    path = await _runs_path(gateway, user)

    response = await gateway.http.post(f"{path}/stream", json={"message": "Hi", "multitask": strategy}, headers=user)

    assert response.status_code == HTTPStatus.OK
    assert gateway.mesh.agent.started[0].multitask == number


async def test_runs_are_listed_by_status(gateway: Client) -> None:
    user = gateway.as_user()
    run = await _started(gateway, user)
    path = f"/api/v1/threads/{run.thread_id}/runs"

    running = await gateway.http.get(path, params={"status": "running"}, headers=user)
    succeeded = await gateway.http.get(path, params={"status": "succeeded"}, headers=user)
    unknown = await gateway.http.get(path, params={"status": "sleeping"}, headers=user)
    gateway.mesh.agent.release.set()

    assert [one["id"] for one in running.json()["items"]] == [run.id]
    assert succeeded.json()["items"] == []
    assert unknown.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert [error["field"] for error in unknown.json()["errors"]] == ["status"]


async def test_waiting_ends_with_the_run(gateway: Client) -> None:
    user = gateway.as_user()
    agent = gateway.mesh.agent
    run = await _started(gateway, user)

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        waiting = group.create_task(
            gateway.http.get(f"/api/v1/runs/{run.id}", params={"wait_s": 60}, headers=user, timeout=60)
        )
        await _follows(gateway, 1)
        agent.release.set()

    assert waiting.result().json()["status"] == "succeeded"


async def test_waiting_for_what_has_ended_asks_for_nothing_more(gateway: Client) -> None:
    user = gateway.as_user()
    run = await _started(gateway, user)
    gateway.mesh.agent.release.set()
    await gateway.http.get(f"/api/v1/runs/{run.id}", params={"wait_s": LIMIT_S}, headers=user)
    gateway.mesh.agent.follows.clear()

    again = await gateway.http.get(f"/api/v1/runs/{run.id}", params={"wait_s": LIMIT_S}, headers=user)

    assert again.json()["status"] == "succeeded"
    assert gateway.mesh.agent.follows == []


@pytest.mark.parametrize("wait_s", ["0.05", "1"])
async def test_waiting_gives_the_run_in_its_final_state(gateway: Client, wait_s: str) -> None:
    user = gateway.as_user()
    run = await _started(gateway, user)

    async with asyncio.timeout(LIMIT_S):
        response = await gateway.http.get(f"/api/v1/runs/{run.id}", params={"wait_s": wait_s}, headers=user)

    gateway.mesh.agent.release.set()
    assert (response.status_code, response.json()["status"]) == (200, "running")


@pytest.mark.parametrize("wait_s", ["-1", "60.1", "nan", "inf", "soon", "1e999"])
async def test_waiting_has_bounds(gateway: Client, wait_s: str) -> None:
    response = await gateway.http.get(f"/api/v1/runs/{new_id()}", params={"wait_s": wait_s}, headers=gateway.as_user())

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert [error["field"] for error in response.json()["errors"]] == ["wait_s"]


async def test_waiting_takes_a_stream_and_gives_it_back(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url, max_streams_per_user=1) as gateway:
        user = gateway.as_user()
        run = await _started(gateway, user)
        path = f"/api/v1/runs/{run.id}"
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            first = group.create_task(gateway.http.get(path, params={"wait_s": 60}, headers=user, timeout=60))
            await _follows(gateway, 1)
            second = await gateway.http.get(path, params={"wait_s": 60}, headers=user)
            at_once = await gateway.http.get(path, headers=user)
            mesh.agent.release.set()
        after = await gateway.http.get(f"{path}/events", headers=user)

    assert (second.status_code, second.json()["reason"]) == (429, "TOO_MANY_STREAMS")
    assert at_once.status_code == HTTPStatus.OK
    assert first.result().json()["status"] == "succeeded"
    assert after.status_code == HTTPStatus.OK


async def test_waiting_client_that_leaves_ends_the_following(gateway: Client) -> None:
    user = gateway.as_user()
    agent = gateway.mesh.agent
    run = await _started(gateway, user)
    async with asyncio.timeout(LIMIT_S):
        await agent.follow_ended.wait()
    agent.follow_ended.clear()

    with pytest.raises(httpx.ReadTimeout):
        await gateway.http.get(f"/api/v1/runs/{run.id}", params={"wait_s": 60}, headers=user, timeout=0.3)

    async with asyncio.timeout(LIMIT_S):
        await agent.follow_ended.wait()
    agent.release.set()


async def test_replica_that_stops_answers_those_who_wait_as_it_stands(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url, drain_s=0.1) as gateway:
        user = gateway.as_user()
        run = await _started(gateway, user)
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            waiting = group.create_task(
                gateway.http.get(f"/api/v1/runs/{run.id}", params={"wait_s": 60}, headers=user, timeout=60)
            )
            await _follows(gateway, 1)
            await gateway.process.drain()
    mesh.agent.release.set()

    assert (waiting.result().status_code, waiting.result().json()["status"]) == (200, "running")


async def test_waiting_survives_a_cut(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url) as gateway:
        user = gateway.as_user()
        run = await _started(gateway, user)
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            waiting = group.create_task(
                gateway.http.get(f"/api/v1/runs/{run.id}", params={"wait_s": 60}, headers=user, timeout=60)
            )
            await _follows(gateway, 1)
            async with mesh.without("agent"):
                pass
            mesh.agent.release.set()

    assert waiting.result().json()["status"] == "succeeded"


async def _follows(gateway: Client, number: int) -> None:
    """Returns when the agent has received this number of follow requests."""
    async with asyncio.timeout(LIMIT_S):
        while len(gateway.mesh.agent.follows) < number:  # noqa: ASYNC110 - the fake tells nobody
            await asyncio.sleep(0.01)
