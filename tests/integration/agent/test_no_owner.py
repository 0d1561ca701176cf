"""Runs whose lease has expired and that no replica has taken over yet: callers can only wait for the next owner."""

from typing import Any, cast

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.execution.executor import Executor, ExecutorLimits
from mesh_agent.execution.waiting import WaitingFollowers
from mesh_agent.ports import PeerAgents
from mesh_agent.store.claims import Owner
from mesh_agent.usecases.cancel_run import CancelRun
from mesh_common.database.postgres import Database
from mesh_common.ids import RunId
from sqlalchemy import text
from support.agent import some_user
from support.mesh import TestMesh
from support.replicas import claimed_by_a_dead_owner, insert_pending, replica
from support.subjects import personal

STUCK = "[[sim:reply=one two three]] [[sim:itl=20000]]"


class FakePeers:
    """Accepts every cancellation; no other call is expected."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def cancel(self, address: str, run_id: RunId) -> None:  # noqa: ARG002 - the port's
        self.asked.append(address)


async def lease_runs_out(database: Database, run_id: str) -> None:
    async with database.as_worker() as connection:
        statement = text("UPDATE agent.leases SET expires_at = clock_timestamp() WHERE run_id = :run_id")
        await connection.execute(statement, {"run_id": run_id})


async def test_follower_of_a_run_without_owner_waits_for_the_next(
    own_mesh: TestMesh, model_url: str, own_database: Database
) -> None:
    """The replica is at capacity until the other run ends. Followers need not reconnect in the meantime."""
    user_id, other_id = some_user(), some_user()
    run_id = await insert_pending(own_database, user_id, "[[sim:reply=done]]")
    await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60)
    async with replica(own_mesh, model_url, AGENT_MAX_RUNS="1") as full, full.starting(other_id, STUCK) as busy:
        await busy.until("message_delta")
        await lease_runs_out(own_database, run_id)
        request = pb.FollowRunRequest(run_id=run_id)
        async with full.calls.stream(full.stub.FollowRun, request, timeout_s=20, subject=personal(user_id)) as stream:
            await stream.initial_metadata()

            await full.cancel(other_id, busy.run_id)

            kinds = [response.event.WhichOneof("event") async for response in stream]

    assert (kinds[0], kinds[-1]) == ("run_restarted", "run_finished")


@pytest.mark.parametrize("is_held", [True, False], ids=["held", "ran-out"])
async def test_only_an_owner_whose_lease_holds_is_told_to_stop(
    own_database: Database,
    is_held: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    claim = await claimed_by_a_dead_owner(own_database, run_id, ttl_s=60, address="there:1")
    if not is_held:
        await lease_runs_out(own_database, run_id)
    peers = FakePeers()
    nothing: Any = None
    owner = Owner("me", "here:1")
    idle = Executor(own_database, owner, nothing, ExecutorLimits(1, 1, 6.0), WaitingFollowers(own_database, owner))
    cancel = CancelRun(own_database, idle, cast("PeerAgents", peers))

    await cancel.stop(personal(user_id), [claim.run_id])

    assert peers.asked == (["there:1"] if is_held else [])
