"""How long text is collected before it is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.events.coalescing import TextWindow, text_window


@pytest.mark.parametrize(("load", "window"), [(-1.0, 0.025), (0.0, 0.025), (0.2, 0.055), (0.5, 0.1), (7.0, 0.1)])
def test_window_is_25_ms_idle_and_100_ms_busy(load: float, window: float) -> None:
    assert text_window(load).length_s == pytest.approx(window)


@given(st.floats(0, 1), st.floats(0, 1))
def test_window_widens_with_load(one: float, other: float) -> None:
    assert text_window(min(one, other)).length_s <= text_window(max(one, other)).length_s


@pytest.mark.parametrize(("load", "is_busy"), [(0.0, False), (0.49, False), (0.5, True), (1.0, True)])
def test_half_of_a_replica_is_busy(load: float, is_busy: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    assert text_window(load).is_busy is is_busy


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_windows_of_a_busy_process_end_at_ticks_that_all_runs_share(one_s: float, other_s: float) -> None:
    window = TextWindow(0.1, is_busy=True)
    ticks = [(now_s + window.wait_s(now_s)) / 0.025 for now_s in (one_s, other_s)]

    assert ticks == pytest.approx([round(tick) for tick in ticks], abs=1e-3)
    assert all(0.075 - 1e-6 <= window.wait_s(now_s) <= 0.1 + 1e-6 for now_s in (one_s, other_s))


def test_a_window_shorter_than_a_tick_does_not_wait_for_one() -> None:
    assert TextWindow(0.01, is_busy=True).wait_s(0.001) == 0.0


def test_windows_of_an_idle_process_are_as_long_as_they_are_said_to_be() -> None:
    assert TextWindow(0.03, is_busy=False).wait_s(0.011) == 0.03
