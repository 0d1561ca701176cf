"""The migration from 0.1.0 on a million rows, while replicas of 0.1.0 work: no statement waits 5 s for its locks."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
from mesh_dev.postgres import EmbeddedPostgres
from support.mesh import TestMesh
from support.old_rows import FILLED, Replica, fill
from support.release_0_1_0 import OldDatabase, connected
from support.scratch import bootstrapped

_MAX_LOCK_WAIT_S = 5.0
_REPLICAS = 4
# Longer than a `migrate` fills rows: the load has to last until the last row is filled.
_BACKFILL_S = 600.0
# Longer than the migration waits for one table, so that it has to give up and try again.
_HELD_S = 0.7


@pytest.mark.parametrize("schema", list(FILLED))
@pytest.mark.parametrize(
    "rows", [20_000, pytest.param(1_000_000, marks=(pytest.mark.nightly, pytest.mark.timeout(1_800)))]
)
async def test_nobody_waits_long_for_the_migration(
    postgres: EmbeddedPostgres, test_mesh: TestMesh, tmp_path: Path, schema: str, rows: int
) -> None:
    name = f"online_{schema}_{rows}"
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, name)
    old = OldDatabase(test_mesh, name, schema)
    await asyncio.to_thread(old.migrate_to_0_1_0, tmp_path / "old")
    async with connected(postgres.admin_url.rpartition("/")[0] + f"/{name}") as admin:
        users = await fill(admin, schema, rows)
        await _migrate_beside_replicas(old, users, f"{schema}, {rows} rows a table")
        for table in FILLED[schema]:
            assert await admin.fetchval(f"SELECT count(*) FROM {schema}.{table} WHERE org_id IS NULL") == 0  # noqa: S608


async def _migrate_beside_replicas(old: OldDatabase, users: Sequence[UUID], title: str) -> None:
    """Fails if a replica waits too long for a lock, or if the migration cancels one of its transactions."""
    replicas = [Replica(old, users, _MAX_LOCK_WAIT_S) for _ in range(_REPLICAS)]
    holder = Replica(old, users, _MAX_LOCK_WAIT_S)

    async with asyncio.TaskGroup() as group:
        for replica in replicas:
            group.create_task(replica.work())
        group.create_task(holder.hold_locks(_HELD_S))
        began_s = time.perf_counter()
        await asyncio.to_thread(old.migrate, _BACKFILL_S)
        took_s = time.perf_counter() - began_s
        for replica in (*replicas, holder):
            replica.is_stopped = True

    took = sorted(one for replica in replicas for one in replica.took_s)
    print(  # noqa: T201 - the nightly run reports these figures
        f"{title}: migrated in {took_s:.1f} s beside {len(took)} transactions; median "
        f"{took[len(took) // 2] * 1000:.1f} ms, longest {took[-1] * 1000:.0f} ms"
    )
