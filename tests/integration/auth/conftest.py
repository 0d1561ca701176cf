"""The auth service as it runs, on the real PostgreSQL, called over gRPC as the gateway and the agent call it."""

from collections.abc import AsyncIterator

import pytest
from fakes.auth.hasher import CountingHasher
from mesh_auth.administration import Accounts
from mesh_auth.domain import EmailAddress, User
from mesh_auth.settings import AuthSettings
from mesh_auth.store.accounts import PostgresAuthDatabase
from mesh_common.clock import SystemClock
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_database
from support.admin_calls import AdminCalls
from support.auth import PASSWORD, AuthUnderTest, opened, settings_for, some_email
from support.mesh import TestMesh


@pytest.fixture(scope="session")
async def auth_settings(test_mesh: TestMesh) -> AuthSettings:
    """Settings of a service on the migrated database, with three signing keys."""
    return settings_for(test_mesh)


@pytest.fixture(scope="session")
async def auth(test_mesh: TestMesh, auth_settings: AuthSettings) -> AsyncIterator[AuthUnderTest]:
    """Auth with a fast fake hasher; test_passwords.py uses the real one."""
    async with opened(test_mesh, auth_settings, hasher=CountingHasher()) as service:
        yield service


@pytest.fixture(scope="session")
async def auth_database(auth_settings: AuthSettings) -> AsyncIterator[Database]:
    """The same database, for state that no RPC returns."""
    async with open_database(auth_settings, schema="auth") as database:
        yield database


@pytest.fixture
def accounts(auth: AuthUnderTest, auth_database: Database) -> Accounts:
    """As the commands have them."""
    hasher, lifetimes = CountingHasher(), auth.settings.lifetimes()
    return Accounts(PostgresAuthDatabase(auth_database), hasher, SystemClock(), lifetimes)


@pytest.fixture
async def admin(accounts: Accounts) -> User:
    email = some_email()
    return await accounts.create(EmailAddress(email, email), PASSWORD, is_admin=True)


@pytest.fixture
def calls(auth: AuthUnderTest, admin: User) -> AdminCalls:
    return AdminCalls(auth, admin.subject)
