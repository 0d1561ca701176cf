"""What administrators do to accounts, in the store in memory and in the one on PostgreSQL."""

from datetime import timedelta

from mesh_auth.domain import Session, SessionId, User
from mesh_auth.ports import AuthDatabase
from mesh_common.ids import UserId, new_id
from support.auth import some_email
from support.auth_stores import HASH, NOW, make_user

LATER = NOW + timedelta(days=30)


async def start_session(database: AuthDatabase, user: User, *, epoch: int = 0) -> SessionId | None:
    session = Session(SessionId(new_id()), user.subject, NOW, LATER)
    async with database.as_subject(user.subject) as store:
        is_started = await store.start_session(session, new_id().bytes * 2, epoch=epoch)
    return session.id if is_started else None


async def revoked(database: AuthDatabase) -> set[SessionId]:
    async with database.as_worker() as store:
        page = await store.list_revocations(None, now=NOW, limit=10_000)
    return {revocation.session_id for revocation in page.revocations}


async def test_all_sessions_of_one_user_end_and_none_of_others(database: AuthDatabase) -> None:
    user, other = await make_user(database), await make_user(database)
    sessions = {await start_session(database, user) for _ in range(3)}
    kept = await start_session(database, other)

    async with database.as_worker() as store:
        first = await store.end_all_sessions(user.subject, now=NOW, revoked_until=LATER)
        second = await store.end_all_sessions(user.subject, now=NOW, revoked_until=LATER)

    assert (first, second) == (3, 0)
    assert sessions <= await revoked(database)
    assert kept not in await revoked(database)


async def test_session_of_an_older_epoch_does_not_start(database: AuthDatabase) -> None:
    user = await make_user(database)
    async with database.as_worker() as store:
        await store.end_all_sessions(user.subject, now=NOW, revoked_until=LATER)
        found = await store.find_credentials(user.email)

    assert found is not None
    assert await start_session(database, user, epoch=found.session_epoch - 1) is None
    assert await start_session(database, user, epoch=found.session_epoch)


async def test_disabled_user_starts_no_session(database: AuthDatabase) -> None:
    user = await make_user(database)
    async with database.as_worker() as store:
        await store.set_disabled(user.id, NOW)
        disabled = await store.find_user(user.id)
    refused = await start_session(database, user)
    async with database.as_worker() as store:
        await store.set_disabled(user.id, None)

    assert disabled is not None
    assert (disabled.disabled_at, refused) == (NOW, None)
    assert await start_session(database, user)


async def test_password_hash_is_set_whatever_it_was(database: AuthDatabase) -> None:
    user = await make_user(database, password_hash="old")

    async with database.as_worker() as store:
        await store.set_password_hash(user.id, "new")
        found = await store.find_credentials(user.email)

    assert found is not None
    assert found.password_hash == "new"


async def test_users_are_listed_newest_first_after_a_position(database: AuthDatabase) -> None:
    oldest, middle, newest = [await make_user(database) for _ in range(3)]

    async with database.as_worker() as store:
        first = await store.list_users(after=None, limit=2)
        rest = await store.list_users(after=middle.id, limit=1)

    assert first == [newest, middle]
    assert rest == [oldest]


async def test_enabled_administrators_are_locked(database: AuthDatabase) -> None:
    enabled, disabled = (User(UserId(new_id()), some_email(), NOW, is_admin=True) for _ in range(2))
    for admin in (enabled, disabled):
        async with database.as_subject(admin.subject) as store:
            await store.add_user(admin, email_key=admin.email, password_hash=HASH)
    user = await make_user(database)

    async with database.as_worker() as store:
        await store.set_disabled(disabled.id, NOW)
        found = await store.lock_enabled_admins()

    assert enabled.id in found
    assert not {disabled.id, user.id} & found
