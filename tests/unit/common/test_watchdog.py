"""The watchdog of the event loop: whom it blames, and for what."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from mesh_common.process.watchdog import Watchdog
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

_PACKAGE = __name__.partition(".")[0]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def blocked(registry: CollectorRegistry) -> "ReportingCounter":
    return ReportingCounter("blocked_total", "Blocked.", ("by",), registry=registry)


class ReportingCounter(Counter):
    """`reported` is set when it counts."""

    reported = threading.Event()

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        super().inc(amount, exemplar)
        self.reported.set()


@asynccontextmanager
async def _watched(blocked: Counter, *packages: str, limit_s: float = 0.1) -> AsyncIterator[None]:
    ReportingCounter.reported.clear()
    dog = Watchdog(frozenset(packages), "agent", blocked, interval_s=0.01, limit_s=limit_s)
    task = asyncio.ensure_future(dog.run())
    # Until the thread has asked once.
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _block() -> None:
    """Until the watchdog has reported it."""
    assert ReportingCounter.reported.wait(10)


@pytest.mark.parametrize(("packages", "by"), [((_PACKAGE, "other"), _PACKAGE), (("other",), "agent")])
async def test_who_blocks_the_loop_is_named(
    blocked: Counter, registry: CollectorRegistry, packages: tuple[str, ...], by: str
) -> None:
    with capture_logs() as logs:
        async with _watched(blocked, *packages):
            _block()

    # A busy machine may hold the loop up once more, when nothing is to blame.
    entry = next(one for one in logs if one["event"] == "event_loop.blocked")
    assert (registry.get_sample_value("blocked_total", {"by": by}) or 0) >= 1
    assert registry.get_sample_value("blocked_total", {"by": "other"}) == 0
    assert entry["by"] == by
    assert "in _block" in entry["stack"]


async def test_loop_that_is_busy_but_not_blocked_is_left_alone(blocked: Counter, registry: CollectorRegistry) -> None:
    async with _watched(blocked, limit_s=5.0):
        for _ in range(100):
            await asyncio.sleep(0.001)

    assert registry.get_sample_value("blocked_total", {"by": "agent"}) == 0


def test_loop_that_is_closed_ends_the_watch(blocked: Counter) -> None:
    async def watched() -> None:
        async with _watched(blocked):
            pass

    # Agents of other tests in this process may have watchdogs, too.
    others = set(threading.enumerate())

    asyncio.run(watched())

    for thread in set(threading.enumerate()) - others:
        if thread.name == "watchdog":
            thread.join(10)
            assert not thread.is_alive()
