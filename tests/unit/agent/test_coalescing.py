"""When text that has arrived is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.events.coalescing import EARLY_S, TICK_S, until_tick_s


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_all_runs_wait_for_the_same_ticks(one_s: float, other_s: float) -> None:
    ticks = [(now_s + until_tick_s(now_s)) / TICK_S for now_s in (one_s, other_s)]

    assert ticks == pytest.approx([round(tick) for tick in ticks], abs=1e-3)


@given(st.floats(0, 1e6))
def test_no_text_waits_longer_than_a_tick(now_s: float) -> None:
    assert EARLY_S - 1e-6 <= until_tick_s(now_s) <= EARLY_S + TICK_S + 1e-6


@pytest.mark.parametrize("early_s", [0.0, EARLY_S / 2])
def test_a_timer_that_fires_at_its_tick_or_just_before_waits_for_the_next(early_s: float) -> None:
    tick_s = 20 * TICK_S

    assert tick_s - early_s + until_tick_s(tick_s - early_s) == pytest.approx(tick_s + TICK_S)
