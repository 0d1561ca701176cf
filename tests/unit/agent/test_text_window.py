"""For how long text gathers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.text_window import window_s


@pytest.mark.parametrize(("load", "window"), [(-1.0, 0.025), (0.0, 0.025), (0.2, 0.055), (0.5, 0.1), (7.0, 0.1)])
def test_window_is_25_ms_idle_and_100_ms_busy(load: float, window: float) -> None:
    assert window_s(load) == pytest.approx(window)


@given(st.floats(0, 1), st.floats(0, 1))
def test_window_widens_with_load(one: float, other: float) -> None:
    assert window_s(min(one, other)) <= window_s(max(one, other))
