"""Followers of runs that no replica executes yet: how they learn that there is something to follow."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from mesh_agent.execution.waiting import WaitingFollowers
from mesh_agent.store import claims
from mesh_agent.store.claims import Owner
from mesh_common.database.postgres import Database
from mesh_common.errors import Unavailable
from mesh_common.ids import RunId, new_id
from sqlalchemy import text
from support.agent import some_user
from support.replicas import insert_pending

HERE = Owner("me", "here:1")
FOLLOWERS = 20


@dataclass
class CountedDatabase:
    """Counts transactions. Refuses them while `is_away`."""

    database: Database
    transactions: int = 0
    is_away: bool = False

    @asynccontextmanager
    async def as_worker(self) -> AsyncIterator[Any]:
        if self.is_away:
            raise Unavailable("The database is not reachable.")
        self.transactions += 1
        async with self.database.as_worker() as connection:
            yield connection


def waiting_on(database: CountedDatabase) -> WaitingFollowers:
    return WaitingFollowers(cast("Any", database), HERE)


async def pending(database: Database) -> RunId:
    return RunId(UUID(await insert_pending(database, some_user(), "Hello")))


def follow(waiting: WaitingFollowers, run_id: RunId) -> "asyncio.Task[None]":
    return asyncio.ensure_future(waiting.until_found(run_id))


async def woken(followers: Iterable["asyncio.Task[None]"]) -> bool:
    """Whether all of them are. Each has had its turn."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return all(follower.done() for follower in followers)


async def claimed_by(database: Database, owner: Owner, run_id: RunId) -> None:
    async with database.as_worker() as connection:
        assert await claims.claim_run(connection, owner, run_id, ttl_s=60)


async def ended(database: Database, run_id: RunId) -> None:
    async with database.as_worker() as connection:
        await connection.execute(
            text("UPDATE agent.runs SET status = 'cancelled', ended_at = now() WHERE id = :id"), {"id": run_id}
        )


async def test_one_statement_serves_all_followers(own_database: Database) -> None:
    database = CountedDatabase(own_database)
    waiting = waiting_on(database)
    stays, moves, ends = [await pending(own_database) for _ in range(3)]
    followers = {
        run_id: [follow(waiting, run_id) for _ in range(FOLLOWERS)] for run_id in (stays, moves, ends, RunId(new_id()))
    }
    await asyncio.sleep(0)
    await claimed_by(own_database, Owner("other", "there:1"), moves)
    await ended(own_database, ends)

    await waiting.look_up()

    found = {run_id for run_id, tasks in followers.items() if await woken(tasks)}
    assert found == set(followers) - {stays}
    assert database.transactions == 1
    waiting.wake_all()
    assert await woken(followers[stays])


async def test_a_run_claimed_here_is_found_when_it_starts(own_database: Database) -> None:
    waiting, run_id = waiting_on(CountedDatabase(own_database)), await pending(own_database)
    follower = follow(waiting, run_id)
    await asyncio.sleep(0)
    await claimed_by(own_database, HERE, run_id)

    await waiting.look_up()
    before = await woken([follower])
    waiting.started_here(run_id)

    assert not before
    assert await woken([follower])


async def test_a_run_whose_lease_expired_waits_for_its_next_owner(own_database: Database) -> None:
    waiting, run_id = waiting_on(CountedDatabase(own_database)), await pending(own_database)
    await claimed_by(own_database, Owner("other", "there:1"), run_id)
    async with own_database.as_worker() as connection:
        await connection.execute(text("UPDATE agent.leases SET expires_at = clock_timestamp()"))
    follower = follow(waiting, run_id)
    await asyncio.sleep(0)

    await waiting.look_up()

    assert not await woken([follower])
    waiting.wake_all()
    await follower


async def test_followers_wait_through_an_outage_of_the_database(own_database: Database) -> None:
    database = CountedDatabase(own_database, is_away=True)
    waiting, run_id = waiting_on(database), await pending(own_database)
    follower = follow(waiting, run_id)
    await asyncio.sleep(0)
    await ended(own_database, run_id)

    await waiting.look_up()
    before = await woken([follower])
    database.is_away = False
    await waiting.look_up()

    assert not before
    assert await woken([follower])


async def test_nothing_is_asked_for_followers_that_left(own_database: Database) -> None:
    database = CountedDatabase(own_database)
    waiting = waiting_on(database)
    follower = follow(waiting, await pending(own_database))
    await asyncio.sleep(0)

    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
    await waiting.look_up()

    assert database.transactions == 0
