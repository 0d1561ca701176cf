"""The use cases on fakes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from fakes.auth.gated_argon2 import GatedArgon2
from fakes.auth.hasher import CountingHasher
from fakes.auth.store import InMemoryAuthDatabase
from fakes.clock import FakeClock
from mesh_auth.domain import Lifetimes, LoginPolicy
from mesh_auth.logins.guard import LoginGuard
from mesh_auth.logins.keyed_hash import KeyedHashes
from mesh_auth.logins.queue import LoginQueue
from mesh_auth.passwords.hash_pool import Bounds, HashPool
from mesh_auth.tokens import ES256TokenSigner
from mesh_auth.usecases import Login, Logout, Refresh, Register, TokenIssuer
from mesh_common.jwt import SigningKey, new_private_key_pem


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database() -> InMemoryAuthDatabase:
    return InMemoryAuthDatabase()


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
def argon2id() -> GatedArgon2:
    return GatedArgon2()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def pool(threads: ThreadPoolExecutor, clock: FakeClock) -> HashPool:
    """One hashing thread, and a queue for one password."""
    return HashPool(threads, Bounds(workers=1, queue=1, wait_s=10.0), clock)


@pytest.fixture
def lifetimes() -> Lifetimes:
    return Lifetimes(timedelta(minutes=15), timedelta(days=30), session=timedelta(days=90))


@pytest.fixture
def issuer(lifetimes: Lifetimes) -> TokenIssuer:
    key = SigningKey.from_pem(new_private_key_pem())
    signer = ES256TokenSigner(key, others=(), issuer="https://i", audience="a", ttl=lifetimes.access_token)
    return TokenIssuer(signer, lifetimes)


@pytest.fixture
def register(database: InMemoryAuthDatabase, hasher: CountingHasher, clock: FakeClock) -> Register:
    return Register(database, hasher, clock, is_open=True)


@pytest.fixture
def guard(clock: FakeClock) -> LoginGuard:
    """Three failures are free from one address, and seven from all strangers."""
    return LoginGuard(LoginPolicy(per_address=3, per_account=7), KeyedHashes([b"key"]), clock)


@pytest.fixture
def queue() -> LoginQueue:
    return LoginQueue(wait_s=10.0)


@pytest.fixture
def login(
    database: InMemoryAuthDatabase,
    hasher: CountingHasher,
    clock: FakeClock,
    issuer: TokenIssuer,
    guard: LoginGuard,
    queue: LoginQueue,
) -> Login:
    return Login(database, hasher, clock, issuer, guard, queue)


@pytest.fixture
def refresh(database: InMemoryAuthDatabase, clock: FakeClock, issuer: TokenIssuer) -> Refresh:
    return Refresh(database, clock, issuer)


@pytest.fixture
def logout(database: InMemoryAuthDatabase, clock: FakeClock, issuer: TokenIssuer) -> Logout:
    return Logout(database, clock, issuer)
