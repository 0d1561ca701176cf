"""Idempotency as a state machine: requests are repeated on any replica, any number of times, concurrently.

The model maps (user, key) to the request and the run that it first created. A key is free again after a day. A request
is its body and its `multitask` strategy: a rejecting one must not take its own repeat for another run.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.background.retention import Retention
from mesh_common.database.postgres import Database
from mesh_common.errors import IdempotencyKeyReused
from mesh_common.ids import UserId
from sqlalchemy import text
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.machines import LoopMachine, explore
from support.mesh import TestMesh
from support.subjects import personal

KEYS = ("key-1", "key-2")
BODIES = ("[[sim:reply=one]]", "[[sim:reply=two]]")
# None starts on a new thread, the others on a thread of the user that is idle except for the repeats.
MULTITASKS = (None, pb.MULTITASK_ENQUEUE, pb.MULTITASK_REJECT)
# The replicas that get the request, all at the same time.
ROUTES = ((0,), (1,), (0, 1), (0, 0, 1))
DAY_S = 86_400.0


@pytest.fixture
async def replicas(own_mesh: TestMesh, model_url: str) -> AsyncIterator[tuple[AgentUnderTest, AgentUnderTest]]:
    one, other = (agent_settings(own_mesh, model_url, AGENT_EVAL_SAMPLE_RATIO="0") for _ in range(2))
    async with running_agent(own_mesh, one) as first, running_agent(own_mesh, other) as second:
        yield first, second


type Request = tuple[str, pb.Multitask | None]


class Requests(LoopMachine):
    def __init__(self, replicas: Sequence[AgentUnderTest], database: Database) -> None:
        super().__init__()
        self.replicas = replicas
        self.database = database
        self.users = [some_user(), some_user()]
        self.threads: dict[UserId, str] = {}
        self.runs: dict[tuple[UserId, str], tuple[Request, str]] = {}
        self.made: dict[UserId, int] = dict.fromkeys(self.users, 0)
        self.last: tuple[UserId, str, Request, str] | None = None

    @rule(
        user=st.integers(0, 1),
        key=st.sampled_from(KEYS),
        request=st.tuples(st.sampled_from(BODIES), st.sampled_from(MULTITASKS)),
        route=st.sampled_from(ROUTES),
    )
    def start(self, user: int, key: str, request: Request, route: Sequence[int]) -> None:
        user_id = self.users[user]
        before = self.runs.get((user_id, key))

        given = self.do(self._start_all(user_id, key, request, route))

        if before and before[0] != request:
            assert given == ["refused"] * len(route)
            return
        assert len(set(given)) == 1
        assert before is None or given[0] == before[1]
        if before is None:
            self.runs[user_id, key] = (request, given[0])
            self.made[user_id] += 1
        self.last = (user_id, key, request, given[0])

    @precondition(lambda self: self.last)
    @rule(route=st.sampled_from(ROUTES))
    def repeat_by_run_id(self, route: Sequence[int]) -> None:
        """As a retry of gRPC does, which sends the same message again."""
        assert self.last is not None
        user_id, key, request, run_id = self.last
        if (user_id, key) in self.runs:
            assert set(self.do(self._start_all(user_id, key, request, route, run_id=run_id))) == {run_id}

    @rule()
    def a_day_passes(self) -> None:
        self.do(self._age())
        self.runs.clear()

    @invariant()
    def every_run_was_made_once(self) -> None:
        assert self.do(self._counts()) == self.made

    async def _start_all(
        self, user_id: UserId, key: str, request: Request, route: Sequence[int], run_id: str | None = None
    ) -> list[str]:
        body, multitask = request
        fields: dict[str, Any] = {"run_id": run_id, "idempotency_key": key}
        if multitask is not None:
            fields |= {"thread_id": await self._thread(user_id), "multitask": multitask}
        return list(
            await asyncio.gather(*(self._start(self.replicas[index], user_id, body, fields) for index in route))
        )

    async def _thread(self, user_id: UserId) -> str:
        if user_id not in self.threads:
            self.threads[user_id] = (await self.replicas[0].create_thread(user_id)).id
        return self.threads[user_id]

    async def _start(self, replica: AgentUnderTest, user_id: UserId, body: str, fields: dict[str, Any]) -> str:
        try:
            turn = await replica.run(user_id, body, **fields)
        except IdempotencyKeyReused:
            return "refused"
        assert turn.last.HasField("run_finished")
        assert turn.text == body.removeprefix("[[sim:reply=").removesuffix("]]")
        return turn.run_id

    async def _age(self) -> None:
        async with self.database.as_worker() as connection:
            for table in ("runs", "threads"):
                statement = f"UPDATE agent.{table} SET created_at = created_at - interval '25 hours'"  # noqa: S608 - ours
                await connection.execute(text(statement))
        await Retention(self.database, DAY_S, 60.0).sweep()

    async def _counts(self) -> dict[UserId, int]:
        found = {}
        for user_id in self.users:
            async with self.database.as_subject(personal(user_id)) as connection:
                found[user_id] = int((await connection.execute(text("SELECT count(*) FROM agent.runs"))).scalar_one())
        return found


async def test_requests_repeated_in_any_way_run_once(
    replicas: tuple[AgentUnderTest, AgentUnderTest], own_database: Database
) -> None:
    await explore(lambda: Requests(replicas, own_database), examples=12, steps=10)
