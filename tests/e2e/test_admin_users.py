"""An administrator made by the command lets a person in and out, through the whole mesh."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator

import httpx
import pytest
from mesh_common.ids import new_id
from mesh_dev.mesh_client import MeshClient
from mesh_dev.stack import Stack
from support.api import PASSWORD, User, eventually

# Revocations reach every replica within this time.
REVOKED_WITHIN_S = 5.0


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[MeshClient]:
    email = f"{new_id().hex}@example.com"
    command = (sys.executable, "-m", "mesh_auth", "create-admin", "--email", email, "--password-stdin")
    environment = stack.environments.of("auth") | {"PATH": os.defpath}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate(f"{PASSWORD}\n".encode())
    assert process.returncode == 0, output.decode()
    async with MeshClient(stack.url) as client:
        login = await client.login(email, PASSWORD)
        assert login.status_code == httpx.codes.OK, login.text
        yield client


async def test_disabled_users_tokens_stop_working_within_five_seconds(admin: MeshClient, user: User) -> None:
    user_id = (await user.get("/auth/me")).json()["id"]

    disabled = await admin.post(f"/admin/users/{user_id}/disable")

    assert disabled.status_code == httpx.codes.OK, disabled.text
    await eventually(
        "the refusal", lambda: user.get("/auth/me"), lambda response: response.status_code == 401, REVOKED_WITHIN_S
    )
    refreshed = await user.post("/auth/refresh", {"refresh_token": user.tokens["refresh_token"]})
    again = await user.login(user.email, PASSWORD)
    assert (refreshed.status_code, again.status_code, again.json()["reason"]) == (401, 401, "USER_DISABLED")

    await admin.post(f"/admin/users/{user_id}/enable")

    assert (await user.login(user.email, PASSWORD)).status_code == httpx.codes.OK


async def test_user_is_no_administrator(user: User) -> None:
    response = await user.get("/admin/users")

    assert (response.status_code, response.json()["reason"]) == (403, "ADMIN_REQUIRED")
