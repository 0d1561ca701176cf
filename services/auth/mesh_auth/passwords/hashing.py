"""Argon2id for passwords, and bcrypt for hashes imported from other systems."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import bcrypt
from mesh_common.clock import Clock

from mesh_auth.domain import PasswordCheck
from mesh_auth.passwords.argon2id import Argon2id
from mesh_auth.passwords.hash_pool import Bounds, HashPool, open_hash_pool

_BCRYPT_PREFIXES: Final = ("$2a$", "$2b$", "$2y$")
_KNOWN_PREFIXES: Final = ("$argon2", *_BCRYPT_PREFIXES)
# The limit of bcrypt. Libraries before bcrypt 5 silently ignored further bytes, and old hashes were made this way.
_BCRYPT_MAX_BYTES: Final = 72
# For unknown accounts, a login verifies against the hash of this password, so that it takes the same time.
_DUMMY_PASSWORD: Final = "no account has this password"  # noqa: S105 - not the password of any account


class Argon2Hasher:
    """Hashes in the pool, which runs nothing else."""

    def __init__(self, pool: HashPool, argon2id: Argon2id) -> None:
        self._pool = pool
        self._argon2id = argon2id
        self._dummy_hash = argon2id.hash(_DUMMY_PASSWORD)

    def require_room(self) -> None:
        self._pool.require_room()

    async def hash(self, password: str) -> str:
        return await self._pool.run(lambda: self._argon2id.hash(password))

    async def verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        return await self._pool.run(lambda: self._verify(password, password_hash))

    def _verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        if password_hash is None or not password_hash.startswith(_KNOWN_PREFIXES):
            self._argon2id.verify(self._dummy_hash, password)
            return PasswordCheck(is_match=False)
        if password_hash.startswith(_BCRYPT_PREFIXES):
            return PasswordCheck(_is_bcrypt_match(password, password_hash), needs_rehash=True)
        is_match = self._argon2id.verify(password_hash, password)
        return PasswordCheck(is_match, needs_rehash=is_match and not self._argon2id.is_own(password_hash))


def _is_bcrypt_match(password: str, password_hash: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:_BCRYPT_MAX_BYTES], password_hash.encode())
    except ValueError:  # a malformed hash
        return False


@asynccontextmanager
async def open_hasher(bounds: Bounds, clock: Clock) -> AsyncIterator[Argon2Hasher]:
    async with open_hash_pool(bounds, clock) as pool:
        yield Argon2Hasher(pool, Argon2id())
