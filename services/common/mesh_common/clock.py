"""The time as a port, so that tests control it."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock in UTC, for times that are stored or shown."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never decrease, for deadlines, leases and durations."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return utc_now()

    def monotonic_s(self) -> float:
        return time.monotonic()


def utc_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the only permitted call
