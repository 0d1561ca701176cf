"""A full pool refuses requests early, whichever library holds the connections."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from mesh_common.caller import Caller, acting
from mesh_common.database import asyncpg_pool, sqlalchemy_engine
from mesh_common.database.pool import Pool
from mesh_common.database.postgres import Database
from mesh_common.errors import Unavailable
from support.mesh import TestMesh
from support.scratch import SCHEMA, settings_for
from support.subjects import some_subject

SUBJECT = some_subject()


@pytest.fixture(params=[asyncpg_pool, sqlalchemy_engine], ids=["asyncpg", "sqlalchemy"])
async def one_connection(request: pytest.FixtureRequest, scratch_mesh: TestMesh) -> AsyncIterator[Database[Any]]:
    pool = Pool("one", 1)
    async with request.param.open_database(settings_for(scratch_mesh, "scratch"), schema=SCHEMA, pool=pool) as database:
        yield database


async def test_request_is_refused_early_and_served_again_once_there_is_room(one_connection: Database[Any]) -> None:
    with acting(Caller("gateway", SUBJECT, None)):
        async with one_connection.as_subject(SUBJECT):
            await _until_overloaded(one_connection)
            began_s = time.monotonic()
            with pytest.raises(Unavailable) as refused:
                async with one_connection.as_subject(SUBJECT):
                    pass
            took_s = time.monotonic() - began_s
        async with one_connection.as_subject(SUBJECT):
            pass

    assert refused.value.reason == "DATABASE_BUSY"
    assert took_s < 2.0


async def test_many_refusals_leave_the_pool_whole(one_connection: Database[Any]) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(acting(Caller("gateway", SUBJECT, None)))
        async with one_connection.as_subject(SUBJECT):
            await _until_overloaded(one_connection)
            outcomes = await asyncio.gather(*(_used(one_connection) for _ in range(50)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}

        for _ in range(5):
            await _used(one_connection)


async def _until_overloaded(database: Database[Any]) -> None:
    """The pool counts as overloaded once it has been full for a second."""
    async with asyncio.timeout(10):
        while True:
            try:
                async with asyncio.timeout(0.2), database.as_subject(SUBJECT):
                    pass
            except TimeoutError:
                continue
            except Unavailable:
                return


async def _used(database: Database[Any]) -> None:
    async with database.as_subject(SUBJECT):
        pass
