"""The service with its real hasher: Argon2id in its own pool."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import bcrypt
import pytest
from fakes.auth.gated_argon2 import GatedArgon2
from fakes.auth.hasher import CountingHasher
from mesh_auth.domain import User
from mesh_auth.passwords.hash_pool import Bounds, HashPool
from mesh_auth.passwords.hashing import Argon2Hasher
from mesh_auth.settings import AuthSettings
from mesh_auth.store.accounts import PostgresAuthDatabase
from mesh_common.clock import SystemClock, utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import PermissionDenied, Unauthenticated, Unavailable
from mesh_common.ids import UserId, new_id
from pydantic import SecretStr
from support.auth import PASSWORD, AuthUnderTest, opened, some_email
from support.mesh import TestMesh
from support.net import free_port


@pytest.fixture
async def small(test_mesh: TestMesh, auth_settings: AuthSettings) -> AsyncIterator[AuthUnderTest]:
    """One hashing thread, and a queue for one password."""
    settings = auth_settings.model_copy(update={"hash_workers": 1, "hash_queue": 1})
    async with opened(test_mesh, settings) as service:
        yield service


async def stored_hash(database: Database, email: str) -> str:
    async with PostgresAuthDatabase(database).as_worker() as store:
        found = await store.find_credentials(email)
    assert found is not None
    return found.password_hash


async def test_password_is_stored_as_argon2id_and_opens_its_account_alone(
    small: AuthUnderTest, auth_database: Database
) -> None:
    email = some_email()

    await small.register(email)

    assert (await stored_hash(auth_database, email)).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await small.login(email)).access_token
    with pytest.raises(Unauthenticated):
        await small.login(email, f"{PASSWORD}!")
    with pytest.raises(Unauthenticated):
        await small.login(some_email())


async def test_bcrypt_hash_becomes_argon2id_at_the_first_login(small: AuthUnderTest, auth_database: Database) -> None:
    email = some_email()
    old = bcrypt.hashpw(b"short one", bcrypt.gensalt(4)).decode()
    user = User(UserId(new_id()), email, utc_now())
    async with PostgresAuthDatabase(auth_database).as_subject(user.subject) as store:
        await store.add_user(user, email_key=email, password_hash=old)

    first = await small.login(email, "short one")

    assert first.access_token
    assert (await stored_hash(auth_database, email)).startswith("$argon2id$")
    assert (await small.login(email, "short one")).access_token


async def test_full_pool_answers_unavailable_with_retry_after(test_mesh: TestMesh, auth_settings: AuthSettings) -> None:
    argon2id = GatedArgon2()
    with ThreadPoolExecutor(1) as threads:
        hasher = Argon2Hasher(HashPool(threads, Bounds(workers=1, queue=0, wait_s=0.0), SystemClock()), argon2id)
        async with opened(test_mesh, auth_settings, hasher=hasher) as full, asyncio.TaskGroup() as group:
            argon2id.hold()
            running = group.create_task(full.register())
            await argon2id.is_reached()

            with pytest.raises(Unavailable) as caught:
                await full.login(some_email())
            argon2id.release()

    assert (caught.value.reason, caught.value.retry_after_s) == ("LOGIN_CAPACITY", 1.0)
    assert running.result().id


async def test_closed_registration_is_refused(test_mesh: TestMesh, auth_settings: AuthSettings) -> None:
    settings = auth_settings.model_copy(update={"registration_open": False})
    async with opened(test_mesh, settings, hasher=CountingHasher()) as closed:
        with pytest.raises(PermissionDenied) as caught:
            await closed.register()

    assert caught.value.reason == "REGISTRATION_CLOSED"


async def test_database_that_is_away_is_unavailable_with_retry_after(
    test_mesh: TestMesh, auth_settings: AuthSettings
) -> None:
    nowhere = SecretStr(f"postgresql://auth_login_a:x@127.0.0.1:{free_port()}/mesh")
    settings = auth_settings.model_copy(update={"database_url": nowhere})
    async with opened(test_mesh, settings, hasher=CountingHasher()) as away:
        for call in (away.register(), away.login(some_email()), away.refresh("token"), away.revocations()):
            with pytest.raises(Unavailable) as caught:
                await call

            assert caught.value.retry_after_s
