"""A disabled user has no session, whatever happens at the same time."""

import asyncio
from uuid import UUID

import pytest
from mesh.auth.v1 import auth_pb2
from mesh_auth.administration import Accounts
from mesh_auth.domain import Session, SessionId, User
from mesh_auth.store.accounts import PostgresAuthDatabase
from mesh_common.clock import SystemClock
from mesh_common.database.postgres import Database
from mesh_common.errors import (
    PreconditionFailed,
    Unauthenticated,
)
from mesh_common.ids import UserId, new_id
from support.admin_calls import OTHER_PASSWORD, AdminCalls, revoked
from support.auth import AuthUnderTest


async def test_disabled_user_is_out_until_enabled(auth: AuthUnderTest, calls: AdminCalls) -> None:
    user = await auth.register()
    tokens = [await auth.login(user.email) for _ in range(3)]

    disabled = await calls.disable(user.id)

    assert disabled.HasField("disabled_at")
    assert {await auth.session_of(pair) for pair in tokens} <= await revoked(auth)
    for pair in tokens:
        with pytest.raises(Unauthenticated):
            await auth.refresh(pair.refresh_token)
    with pytest.raises(Unauthenticated) as caught:
        await auth.login(user.email)
    assert caught.value.reason == "USER_DISABLED"
    with pytest.raises(Unauthenticated) as wrong:
        await auth.login(user.email, OTHER_PASSWORD)
    assert wrong.value.reason == "WRONG_CREDENTIALS"

    enabled = await calls.enable(user.id)

    assert not enabled.HasField("disabled_at")
    assert (await auth.login(user.email)).access_token
    with pytest.raises(Unauthenticated):
        await auth.refresh(tokens[0].refresh_token)


async def test_disabling_and_enabling_again_change_nothing(auth: AuthUnderTest, calls: AdminCalls) -> None:
    user = await auth.register()

    first, second = await calls.disable(user.id), await calls.disable(user.id)
    await calls.enable(user.id)
    enabled = await calls.enable(user.id)

    assert first == second
    assert enabled == await calls.read(user.id)
    assert not enabled.HasField("disabled_at")


async def test_nobody_disables_their_own_account(calls: AdminCalls, admin: User) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        await calls.disable(str(admin.id))

    assert caught.value.reason == "OWN_ACCOUNT"


async def test_login_in_progress_while_the_user_is_disabled_starts_no_session(
    auth: AuthUnderTest, auth_database: Database, accounts: Accounts
) -> None:
    """The password was checked before, and the session would begin after."""
    user_id = UserId(UUID((await auth.register()).id))
    database = PostgresAuthDatabase(auth_database)
    user = await accounts.read(user_id)
    before = await _credentials(database, user.email)

    await accounts.disable(user_id)
    await accounts.enable(user_id)

    now = SystemClock().now()
    session = Session(SessionId(new_id()), user.subject, now, now)
    async with database.as_subject(user.subject) as store:
        assert not await store.start_session(session, new_id().bytes * 2, epoch=before)
        assert await store.start_session(session, new_id().bytes * 2, epoch=before + 1)


async def _credentials(database: PostgresAuthDatabase, email: str) -> int:
    async with database.as_worker() as store:
        found = await store.find_credentials(email)
    assert found is not None
    return found.session_epoch


async def test_logins_and_disabling_at_once_leave_no_living_session(auth: AuthUnderTest, calls: AdminCalls) -> None:
    user = await auth.register()

    *logins, _ = await asyncio.gather(
        *(auth.login(user.email) for _ in range(8)), calls.disable(user.id), return_exceptions=True
    )

    pairs = [pair for pair in logins if isinstance(pair, auth_pb2.TokenPair)]
    await calls.enable(user.id)
    assert {await auth.session_of(pair) for pair in pairs} <= await revoked(auth)
    for pair in pairs:
        with pytest.raises(Unauthenticated):
            await auth.refresh(pair.refresh_token)
