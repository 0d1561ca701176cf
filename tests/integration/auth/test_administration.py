"""The RPCs of administrators, over the real server: what they do, and who may call them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message
from mesh_auth.administration import Accounts
from mesh_auth.domain import EmailAddress, User
from mesh_common.errors import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Unauthenticated,
)
from mesh_common.ids import OrganisationId, UserId, new_id, parse_id
from mesh_common.subject import Subject
from structlog.testing import capture_logs
from support.admin_calls import OTHER_PASSWORD, AdminCalls, revoked
from support.auth import PASSWORD, AuthUnderTest, some_email

EVERY_CALL: list[Callable[[AdminCalls, str], Awaitable[object]]] = [
    lambda calls, _: calls.create(some_email()),
    lambda calls, _: calls.list(),
    lambda calls, user_id: calls.read(user_id),
    lambda calls, user_id: calls.set_password(user_id),
    lambda calls, user_id: calls.disable(user_id),
    lambda calls, user_id: calls.enable(user_id),
]


@pytest.mark.parametrize("call", EVERY_CALL)
async def test_user_is_refused(auth: AuthUnderTest, call: Callable[[AdminCalls, str], Awaitable[object]]) -> None:
    """Also one whose call claims the scope: auth does not rely on the gateway alone."""
    victim, stranger = await auth.register(), await auth.register()
    user_id = UserId(parse_id(stranger.id, "id"))

    for scopes in (frozenset({"user"}), frozenset({"user", "admin"})):
        caller = Subject(OrganisationId(user_id), user_id, scopes=scopes)
        with pytest.raises(PermissionDenied) as caught:
            await call(AdminCalls(auth, caller), victim.id)
        assert caught.value.reason == "ADMIN_REQUIRED"

    assert (await auth.login(victim.email)).access_token


@pytest.mark.parametrize("call", EVERY_CALL)
async def test_administrator_without_the_scope_or_disabled_is_refused(
    auth: AuthUnderTest,
    accounts: Accounts,
    admin: User,
    call: Callable[[AdminCalls, str], Awaitable[object]],
) -> None:
    victim = await auth.register()
    with pytest.raises(PermissionDenied):
        await call(AdminCalls(auth, admin.subject.without_grants()), victim.id)
    email = some_email()
    await accounts.create(EmailAddress(email, email), PASSWORD, is_admin=True)
    await accounts.disable(admin.id)

    with pytest.raises(PermissionDenied):
        await call(AdminCalls(auth, admin.subject), victim.id)


@pytest.mark.parametrize("call", EVERY_CALL)
async def test_call_for_nobody_is_refused(
    auth: AuthUnderTest, call: Callable[[AdminCalls, str], Awaitable[object]]
) -> None:
    class Nobody(AdminCalls):
        async def _call(self, name: str, request: Message) -> Any:
            return await auth.gateway.unary(getattr(auth.stub, name), request, timeout_s=5)

    with pytest.raises(Unauthenticated) as caught:
        await call(Nobody(auth, Subject.personal(UserId(new_id()))), str(new_id()))

    assert caught.value.reason == "USER_REQUIRED"


async def test_created_user_can_log_in(auth: AuthUnderTest, calls: AdminCalls) -> None:
    email = some_email()

    user = await calls.create(email)

    assert (user.email, user.is_admin, user.HasField("disabled_at")) == (email, False, False)
    assert (await auth.login(email)).access_token
    with pytest.raises(AlreadyExists):
        await calls.create(email)


async def test_users_are_listed_newest_first_in_pages(auth: AuthUnderTest, calls: AdminCalls) -> None:
    made = [(await auth.register()).id for _ in range(5)]

    found: list[str] = []
    cursor: str | None = None
    while len(found) < len(made):
        page = await calls.list(cursor)
        found += [user.id for user in page.users]
        cursor = page.next_cursor

    assert found[: len(made)] == made[::-1]


async def test_last_page_has_no_cursor(calls: AdminCalls, accounts: Accounts) -> None:
    oldest = await calls.list(limit=100)
    while oldest.HasField("next_cursor"):
        oldest = await calls.list(oldest.next_cursor, limit=100)

    assert oldest.users
    assert (await accounts.list(after=UserId(UUID(oldest.users[-1].id)), limit=1)).users == ()


@pytest.mark.parametrize(("limit", "cursor", "field"), [(0, None, "limit"), (101, None, "limit"), (1, "7", "cursor")])
async def test_page_that_is_none_is_refused(calls: AdminCalls, limit: int, cursor: str | None, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await calls.list(cursor, limit)

    assert caught.value.fields[0].field == field


async def test_set_password_replaces_it_and_ends_all_sessions(auth: AuthUnderTest, calls: AdminCalls) -> None:
    user = await auth.register()
    tokens = await auth.login(user.email)

    await calls.set_password(user.id)

    assert await auth.session_of(tokens) in await revoked(auth)
    with pytest.raises(Unauthenticated):
        await auth.refresh(tokens.refresh_token)
    with pytest.raises(Unauthenticated):
        await auth.login(user.email)
    assert (await auth.login(user.email, OTHER_PASSWORD)).access_token


async def test_new_password_must_keep_the_rules(auth: AuthUnderTest, calls: AdminCalls) -> None:
    user = await auth.register()

    with pytest.raises(InvalidInput) as caught:
        await calls.set_password(user.id, "passwordpassword")

    assert caught.value.fields[0].field == "password"
    assert (await auth.login(user.email)).access_token


async def test_unknown_account_is_not_found(calls: AdminCalls) -> None:
    for call in EVERY_CALL[2:]:
        with pytest.raises(NotFound):
            await call(calls, str(new_id()))


async def test_of_two_last_administrators_one_remains(auth: AuthUnderTest, accounts: Accounts) -> None:
    """Both disable each other at the same instant."""
    await _disable_all_admins_but_one(accounts)
    email = some_email()
    first = await accounts.create(EmailAddress(email, email), PASSWORD, is_admin=True)
    second = next(user for user in await _enabled_admins(accounts) if user.id != first.id)

    outcomes = await asyncio.gather(
        AdminCalls(auth, first.subject).disable(str(second.id)),
        AdminCalls(auth, second.subject).disable(str(first.id)),
        return_exceptions=True,
    )

    assert len(await _enabled_admins(accounts)) == 1
    assert sum(isinstance(outcome, PreconditionFailed | PermissionDenied) for outcome in outcomes) == 1


async def _enabled_admins(accounts: Accounts) -> list[User]:
    page = await accounts.list(after=None, limit=10_000)
    return [user for user in page.users if user.is_admin and not user.disabled_at]


async def _disable_all_admins_but_one(accounts: Accounts) -> None:
    email = some_email()
    await accounts.create(EmailAddress(email, email), PASSWORD, is_admin=True)
    for user in (await _enabled_admins(accounts))[1:]:
        await accounts.disable(user.id)


async def test_changes_are_logged_without_secrets(calls: AdminCalls, admin: User) -> None:
    email = some_email()

    with capture_logs() as lines:
        user = await calls.create(email)
        await calls.set_password(user.id)
        await calls.disable(user.id)
        await calls.enable(user.id)

    audit = [line for line in lines if line["event"].startswith("admin.")]
    assert [line["event"] for line in audit] == [
        "admin.user_created",
        "admin.password_set",
        "admin.user_disabled",
        "admin.user_enabled",
    ]
    assert all((line["admin_id"], line["user_id"]) == (str(admin.id), user.id) for line in audit)
    assert PASSWORD not in str(lines)
