import asyncio
import statistics
from functools import partial

import pytest
from simulator.pacing import Clock, LoopTimers, Pace, TickWheel, lognormal_jitter


def test_lognormal_gaps_have_the_mean_of_constant_ones() -> None:
    pace = Pace(0, 0.02, lognormal_jitter(1, 0.5))

    gaps = [pace.gap_s(index) for index in range(4096)]

    assert statistics.fmean(gaps) == pytest.approx(0.02, rel=0.05)
    assert statistics.stdev(gaps) > 0.005


def test_jitter_comes_from_the_seed() -> None:
    lognormal_jitter.cache_clear()
    first = lognormal_jitter(1, 0.5)
    lognormal_jitter.cache_clear()

    assert lognormal_jitter(1, 0.5) == first
    assert lognormal_jitter(2, 0.5) != first


@pytest.mark.parametrize("name", ["wheel", "timers"])
async def test_callbacks_come_in_the_order_of_their_times_and_not_early(name: str) -> None:
    loop = asyncio.get_running_loop()
    clock: Clock = TickWheel(loop, 0.001) if name == "wheel" else LoopTimers(loop)
    done = asyncio.Event()
    calls: list[tuple[int, float]] = []
    start_s = clock.now_s()

    def call(delay_ms: int) -> None:
        calls.append((delay_ms, (clock.now_s() - start_s) * 1000))
        if delay_ms == 30:
            done.set()

    for delay_ms in (30, 10, 20, 0):
        clock.at(start_s + delay_ms / 1000, partial(call, delay_ms))
    await done.wait()

    assert [delay_ms for delay_ms, _ in calls] == [0, 10, 20, 30]
    assert all(called_ms >= delay_ms - 1.5 for delay_ms, called_ms in calls)


async def test_a_callback_may_ask_for_the_next_one_at_once_or_later() -> None:
    clock = TickWheel(asyncio.get_running_loop(), 0.001)
    done = asyncio.Event()
    turns: list[int] = []

    def turn() -> None:
        turns.append(1)
        if len(turns) == 6:
            done.set()
        else:
            clock.at(clock.now_s() + (0 if len(turns) % 2 else 0.003), turn)

    clock.at(clock.now_s(), turn)
    await done.wait()

    assert len(turns) == 6
