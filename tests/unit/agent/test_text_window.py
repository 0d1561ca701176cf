"""For how long text gathers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.text_window import text_window


@pytest.mark.parametrize(("load", "window"), [(-1.0, 0.025), (0.0, 0.025), (0.2, 0.055), (0.5, 0.1), (7.0, 0.1)])
def test_window_is_25_ms_idle_and_100_ms_busy(load: float, window: float) -> None:
    assert text_window(load).length_s == pytest.approx(window)


@given(st.floats(0, 1), st.floats(0, 1))
def test_window_widens_with_load(one: float, other: float) -> None:
    assert text_window(min(one, other)).length_s <= text_window(max(one, other)).length_s


@pytest.mark.parametrize(("load", "is_busy"), [(0.0, False), (0.49, False), (0.5, True), (1.0, True)])
def test_half_of_a_replica_is_busy(load: float, is_busy: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    assert text_window(load).is_busy is is_busy
