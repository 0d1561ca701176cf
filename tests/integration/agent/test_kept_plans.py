"""Plans are stored once, kept while runs need them, and then deleted."""

from datetime import timedelta

from fakes.agent.runs import a_plan
from fakes.clock import FakeClock
from mesh_agent.assistants.model import RunnableAssistant
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.kept_plans import KeptPlans
from mesh_agent.plans.stored import StoredPlan, stored
from mesh_agent.store import claims, plans, retention
from mesh_common.database.postgres import Database
from sqlalchemy import text
from support.agent import some_user
from support.replicas import insert_pending

DAY_S = 86_400.0
_HASH = text("SELECT plan_hash FROM agent.runs WHERE id = :run_id")


async def test_plan_is_stored_once_and_not_again_for_half_of_what_it_is_kept(own_database: Database) -> None:
    clock = FakeClock()
    assistant = RunnableAssistant("default", "", a_plan("a", "b"))
    kept = KeptPlans(own_database, a_plan, 100.0, clock)
    plan = kept.resolve("b", Entitlements(used_tokens=1), assistant)

    await kept.keep(plan)
    async with own_database.as_worker() as connection:
        await connection.execute(text("DELETE FROM agent.plans"))
    clock.advance(timedelta(seconds=49))
    await kept.keep(kept.resolve("b", Entitlements(used_tokens=2), assistant))
    while_known = await own_plans(own_database)
    clock.advance(timedelta(seconds=1))
    await kept.keep(plan)

    assert while_known == []
    assert await own_plans(own_database) == [plan.hash]


async def test_plan_whose_row_is_missing_is_resolved_anew(own_database: Database) -> None:
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    async with own_database.as_worker() as connection:
        await connection.execute(text("UPDATE agent.runs SET plan_hash = 'lost'"))
        [claim] = await claims.claim_runs(connection, claims.Owner("x", "y"), limit=1, ttl_s=60)
    kept = KeptPlans(own_database, a_plan, DAY_S, FakeClock())

    plan = await kept.of(claim, Entitlements(), Entitlements())

    assert plan == a_plan()
    async with own_database.as_worker() as connection:
        assert (await connection.execute(_HASH, {"run_id": run_id})).scalar_one() == stored(plan).hash


async def own_plans(database: Database) -> list[bytes]:
    async with database.as_worker() as connection:
        return [bytes(row.hash) for row in await connection.execute(text("SELECT hash FROM agent.plans"))]


async def test_plans_go_that_no_unended_run_refers_to_and_nobody_used_for_long(own_database: Database) -> None:
    run_id = await insert_pending(own_database, some_user(), "Hello")
    unused, referred, recent = (stored(a_plan(name)) for name in ("unused", "referred", "recent"))
    await kept_since(own_database, 25, unused, referred)
    await kept_since(own_database, 23, recent)
    async with own_database.as_worker() as connection:
        await connection.execute(
            text("UPDATE agent.runs SET plan_hash = :hash WHERE id = :run_id"),
            {"hash": referred.hash, "run_id": run_id},
        )

        dropped = await retention.drop_expired(connection, DAY_S, limit=10)

    assert dropped["plans"] == 1
    assert sorted(await own_plans(own_database)) == sorted([referred.hash, recent.hash])


async def kept_since(database: Database, hours: int, *kept: StoredPlan) -> None:
    """Sets how long ago the plan was last used."""
    async with database.as_worker() as connection:
        for plan in kept:
            await plans.keep_plan(connection, plan.hash, plan.data)
            aged = text("UPDATE agent.plans SET used_at = now() - make_interval(hours => :hours) WHERE hash = :hash")
            await connection.execute(aged, {"hours": hours, "hash": plan.hash})
