"""Wires auth: opens the database pool, the hashing threads, the signing keys, the use cases and the server.

Nothing is opened at import time. Everything is closed in reverse order when the block ends.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from mesh_common.clock import Clock, SystemClock
from mesh_common.database.postgres import Database
from mesh_common.database.revisions import newest_revision
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_common.grpc.health import ReadinessCheck
from mesh_common.grpc.service import Drain, ServiceParts, open_grpc_service
from mesh_common.jwt import SigningKey

from mesh_auth.administration import Accounts, Administration
from mesh_auth.logins.guard import LoginGuard
from mesh_auth.logins.keyed_hash import keyed_hashes
from mesh_auth.logins.queue import LoginQueue
from mesh_auth.passwords.hash_pool import Bounds
from mesh_auth.passwords.hashing import open_hasher
from mesh_auth.ports import AccessTokenSigner, AuthDatabase, PasswordHasher
from mesh_auth.retention import Retention
from mesh_auth.servicer import PROTO_SERVICE, AuthServicer, UseCases
from mesh_auth.settings import AuthSettings
from mesh_auth.store.accounts import PostgresAuthDatabase
from mesh_auth.tables import SCHEMA
from mesh_auth.tokens import ES256TokenSigner
from mesh_auth.usecases import (
    GetEntitlements,
    GetUsage,
    GetUser,
    ListRevocations,
    Login,
    Logout,
    RecordUsage,
    RecordUsageBatch,
    Refresh,
    Register,
    TokenIssuer,
)

MIGRATIONS: Final = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_service(settings: AuthSettings, *, hasher: PasswordHasher | None = None) -> AsyncIterator[Drain]:
    """Serves while open. Tests that do not concern passwords pass a `hasher`, because Argon2id takes 20 ms per hash."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings, schema=SCHEMA))
        if hasher is None:
            bounds = Bounds(settings.hash_workers, settings.hash_queue, settings.hash_wait_s)
            hasher = await stack.enter_async_context(open_hasher(bounds, clock))
        signer = _token_signer(settings)
        store = PostgresAuthDatabase(database)
        servicer = AuthServicer(_use_cases(settings, store, hasher, signer, clock), signer)
        readiness = _readiness_of(database)
        retention = Retention(
            store,
            clock,
            lifetimes=settings.lifetimes(),
            period_s=settings.retention_period_s,
            not_ready_reason=readiness,
        )
        parts = ServiceParts(
            service="auth",
            proto_services=(PROTO_SERVICE,),
            register=servicer.add_to,
            readiness=(readiness,),
            background=(retention.run,),
        )
        yield await stack.enter_async_context(open_grpc_service(settings, parts))


@asynccontextmanager
async def open_accounts(settings: AuthSettings) -> AsyncIterator[Accounts]:
    """Accounts without a server, for the commands of operators."""
    clock = SystemClock()
    async with (
        open_database(settings, schema=SCHEMA) as database,
        open_hasher(Bounds(workers=1, queue=0, wait_s=0.0), clock) as hasher,
    ):
        yield Accounts(PostgresAuthDatabase(database), hasher, clock, settings.lifetimes())


def _readiness_of(database: Database) -> ReadinessCheck:
    revision = newest_revision(MIGRATIONS)
    return lambda: database.not_ready_reason(revision)


def _use_cases(
    settings: AuthSettings, database: AuthDatabase, hasher: PasswordHasher, signer: AccessTokenSigner, clock: Clock
) -> UseCases:
    issuer = TokenIssuer(signer, settings.lifetimes())
    return UseCases(
        register=Register(database, hasher, clock, is_open=settings.registration_open),
        login=Login(database, hasher, clock, issuer, _login_guard(settings, clock), LoginQueue(settings.login_wait_s)),
        refresh=Refresh(database, clock, issuer),
        logout=Logout(database, clock, issuer),
        list_revocations=ListRevocations(database, clock),
        get_user=GetUser(database),
        get_entitlements=GetEntitlements(database, clock, settings.default_allowances()),
        record_usage=RecordUsage(database),
        record_usage_batch=RecordUsageBatch(database),
        get_usage=GetUsage(database, clock),
        administration=Administration(Accounts(database, hasher, clock, settings.lifetimes())),
    )


def _login_guard(settings: AuthSettings, clock: Clock) -> LoginGuard:
    keys = (settings.signing_key, settings.previous_signing_key, settings.next_signing_key)
    hashes = keyed_hashes([SigningKey.from_pem(pem.get_secret_value()) for pem in keys if pem])
    return LoginGuard(settings.login_policy(), hashes, clock)


def _token_signer(settings: AuthSettings) -> ES256TokenSigner:
    others = (settings.previous_signing_key, settings.next_signing_key)
    return ES256TokenSigner(
        SigningKey.from_pem(settings.signing_key.get_secret_value()),
        others=[SigningKey.from_pem(pem.get_secret_value()) for pem in others if pem],
        issuer=settings.issuer,
        audience=settings.audience,
        ttl=settings.lifetimes().access_token,
    )
