"""Joining tokens: the first at once, the rest in windows, order kept."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.attempt_log import LeaseLostError
from mesh_agent.coalescer import TextCoalescer, window_s


async def test_first_text_goes_out_at_once_and_the_rest_waits() -> None:
    sent: list[str] = []
    coalescer = TextCoalescer(sent.append, lambda: 0.0)

    for text in ("a", "b", "c"):
        coalescer.push(text)

    assert sent == ["a"]
    coalescer.flush()
    assert sent == ["a", "bc"]


async def test_what_waits_goes_out_when_the_window_closes() -> None:
    sent: asyncio.Queue[str] = asyncio.Queue()
    coalescer = TextCoalescer(sent.put_nowait, lambda: 0.0)

    for text in ("a", "b", "c"):
        coalescer.push(text)

    assert [await asyncio.wait_for(sent.get(), 5) for _ in range(2)] == ["a", "bc"]


async def test_nothing_goes_out_after_the_timer_is_discarded() -> None:
    sent: list[str] = []
    coalescer = TextCoalescer(sent.append, lambda: 0.0)
    coalescer.push("a")
    coalescer.push("b")

    coalescer.discard_timer()

    closed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.05, closed.set_result, None)
    await closed
    assert sent == ["a"]


async def test_failure_to_send_from_the_timer_is_raised_by_the_next_push() -> None:
    failed = asyncio.Event()

    def send(text: str) -> None:
        if text != "a":
            failed.set()
            raise LeaseLostError

    coalescer = TextCoalescer(send, lambda: 0.0)
    coalescer.push("a")
    coalescer.push("b")
    await asyncio.wait_for(failed.wait(), 5)

    with pytest.raises(LeaseLostError):
        coalescer.push("c")
    with pytest.raises(LeaseLostError):
        coalescer.flush()


@pytest.mark.parametrize(("load", "expected_s"), [(0.0, 0.025), (1.0, 0.1), (7.0, 0.1), (-1.0, 0.025)])
def test_window_is_within_its_bounds(load: float, expected_s: float) -> None:
    assert window_s(load) == pytest.approx(expected_s)


@given(st.floats(0, 1), st.floats(0, 1))
def test_window_widens_with_load(one: float, other: float) -> None:
    assert window_s(min(one, other)) <= window_s(max(one, other))
