"""Argon2id at the lowest cost there is, which counts and can be held."""

import asyncio
import threading

from mesh_auth.passwords.argon2id import Argon2id


class GatedArgon2(Argon2id):
    """Counts what it does; between `hold` and `release` each thread that hashes or verifies stops."""

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
        """Waits until a thread stands at the gate."""
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
