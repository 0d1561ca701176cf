"""Argon2id at the lowest cost. It counts its calls, and a test can block it."""

import asyncio
import threading

from mesh_auth.passwords.argon2id import Argon2id


class GatedArgon2(Argon2id):
    """Counts its calls; between `hold` and `release`, each thread that hashes or verifies is blocked."""

    def __init__(self) -> None:
        super().__init__(memory_kib=8, passes=1)
        self.hashed = 0
        self.verified = 0
        self._gate = threading.Event()
        self._gate.set()
        self._is_reached = threading.Event()

    def hold(self) -> None:
        self._is_reached.clear()
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    async def is_reached(self) -> None:
        """Waits until a thread is blocked."""
        assert await asyncio.to_thread(self._is_reached.wait, 10)

    def hash(self, password: str) -> str:
        self.hashed += 1
        self._pass()
        return super().hash(password)

    def verify(self, password_hash: str, password: str) -> bool:
        self.verified += 1
        self._pass()
        return super().verify(password_hash, password)

    def _pass(self) -> None:
        self._is_reached.set()
        assert self._gate.wait(10)
