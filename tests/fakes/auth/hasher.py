"""A hasher without cost that counts its calls, for tests that are not about passwords."""

import asyncio

from mesh_auth.domain import PasswordCheck
from mesh_common.errors import MeshError


class CountingHasher:
    """`old:` marks a hash that needs to be replaced.

    `hash` raises `error`, `verify` raises `verify_error`, `require_room` raises `refusal`.
    """

    def __init__(self) -> None:
        self.hashes = 0
        self.verified_against: list[str | None] = []
        self.error: MeshError | None = None
        self.verify_error: MeshError | None = None
        self.refusal: MeshError | None = None

    def require_room(self) -> None:
        if self.refusal:
            raise self.refusal

    async def hash(self, password: str) -> str:
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        self.hashes += 1
        return f"new:{password}"

    async def verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        await asyncio.sleep(0)
        if self.verify_error:
            raise self.verify_error
        self.verified_against.append(password_hash)
        if password_hash is None:
            return PasswordCheck(is_match=False)
        age, _, expected = password_hash.partition(":")
        return PasswordCheck(password == expected, needs_rehash=age == "old")


class GatedHasher(CountingHasher):
    """Holds each check until it is let through, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = asyncio.Semaphore(0)
        self._gate = asyncio.Semaphore(0)

    async def holds(self, count: int) -> None:
        """Waits until this many more checks have begun."""
        async with asyncio.timeout(10):
            for _ in range(count):
                await self._begun.acquire()

    def let_through(self, count: int) -> None:
        for _ in range(count):
            self._gate.release()

    async def verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        self._begun.release()
        await self._gate.acquire()
        return await super().verify(password, password_hash)
