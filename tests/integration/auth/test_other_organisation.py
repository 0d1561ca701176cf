"""A user who acts in an organisation other than the personal one: the same account, and usage of its own."""

import pytest
from mesh.auth.v1 import auth_pb2
from mesh_auth.tables import entitlement_overrides
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import Unauthenticated
from mesh_common.ids import UserId, new_id, parse_id
from mesh_common.subject import Subject
from sqlalchemy import insert
from support.auth import AuthUnderTest
from support.subjects import elsewhere, personal


@pytest.fixture
async def user(auth: AuthUnderTest) -> auth_pb2.User:
    return await auth.register()


@pytest.fixture
def subject(user: auth_pb2.User) -> Subject:
    return elsewhere(personal(UserId(parse_id(user.id, "id"))))


async def test_the_user_is_found(auth: AuthUnderTest, user: auth_pb2.User, subject: Subject) -> None:
    request = auth_pb2.GetUserRequest()

    found = await auth.gateway.unary(auth.stub.GetUser, request, timeout_s=5, subject=subject)

    assert found.user == user


async def test_logout_ends_the_session(auth: AuthUnderTest, user: auth_pb2.User, subject: Subject) -> None:
    tokens = await auth.login(user.email)
    session = await auth.session_of(tokens)
    cursor = (await auth.revocations()).next_cursor

    request = auth_pb2.LogoutRequest(session_id=session)
    await auth.gateway.unary(auth.stub.Logout, request, timeout_s=5, subject=subject)

    assert session in [entry.session_id for entry in (await auth.revocations(cursor)).revocations]
    with pytest.raises(Unauthenticated):
        await auth.refresh(tokens.refresh_token)


async def test_entitlements_are_the_users_and_count_the_organisations_usage(
    auth: AuthUnderTest, auth_database: Database, subject: Subject
) -> None:
    async with auth_database.as_worker() as connection:
        await connection.execute(insert(entitlement_overrides).values(user_id=subject.user_id, monthly_tokens=50))
    await _record(auth, personal(subject.user_id), tokens=1)
    await _record(auth, subject, tokens=20)

    request = auth_pb2.GetEntitlementsRequest()
    found = (await auth.agent.unary(auth.stub.GetEntitlements, request, timeout_s=5, subject=subject)).entitlements

    assert (found.monthly_tokens, found.used_tokens) == (50, 20)


async def test_usage_is_booked_in_the_organisation(auth: AuthUnderTest, subject: Subject) -> None:
    await _record(auth, subject, tokens=20)

    assert await _used(auth, subject) == 20
    assert await _used(auth, personal(subject.user_id)) == 0


async def _record(auth: AuthUnderTest, subject: Subject, *, tokens: int) -> None:
    request = auth_pb2.RecordUsageRequest(run_id=str(new_id()), model="m", input_tokens=tokens)
    request.ended_at.FromDatetime(utc_now())
    await auth.agent.unary(auth.stub.RecordUsage, request, timeout_s=5, subject=subject)


async def _used(auth: AuthUnderTest, subject: Subject) -> int:
    request = auth_pb2.GetUsageRequest()
    response = await auth.gateway.unary(auth.stub.GetUsage, request, timeout_s=5, subject=subject)
    return sum(entry.input_tokens for entry in response.models)
