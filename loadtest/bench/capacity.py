"""Measures how many passwords the otherwise idle cores can hash, the reference for logins."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from mesh_auth.passwords.argon2id import Argon2id

from bench.load import PASSWORD


def hashes_per_s(for_s: float) -> float:
    """Passwords verified per second with auth's parameters and one thread per core. Blocks."""
    hasher = Argon2id()
    password_hash = hasher.hash(PASSWORD)
    cores = len(os.sched_getaffinity(0))
    began_s = time.monotonic()

    def verify_on() -> int:
        verified = 0
        while time.monotonic() < began_s + for_s:
            verified += hasher.verify(password_hash, PASSWORD)
        return verified

    with ThreadPoolExecutor(cores) as pool:
        threads = [pool.submit(verify_on) for _ in range(cores)]
    return sum(thread.result() for thread in threads) / (time.monotonic() - began_s)
