"""The privileges of a service's login."""

import asyncpg
import pytest
from support.mesh import TestMesh


async def test_login_without_a_role_is_refused_every_statement_on_its_schema(test_mesh: TestMesh) -> None:
    connection = await asyncpg.connect(test_mesh.database_url("auth"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE auth.mine (id int)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET ROLE auth_owner")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET ROLE memory_app")
    finally:
        await connection.close()


async def test_login_b_can_take_the_same_roles_as_login_a(test_mesh: TestMesh) -> None:
    connection = await asyncpg.connect(test_mesh.database_url("auth", "login_b"))
    try:
        await connection.execute("SET ROLE auth_worker")
        role = await connection.fetchval("SELECT current_user")
    finally:
        await connection.close()

    assert role == "auth_worker"
