"""When text goes out, on a clock that jumps: never late, never out of order."""

import asyncio

import pytest
from fakes.agent.loop_time import in_jumping_time, loop_time_ms
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_agent.attempt_log import LeaseLostError
from mesh_agent.coalescer import TextCoalescer, window_s


class Sent:
    """Takes what is sent, with the time; `is_lost` makes it refuse as a log without a lease does."""

    def __init__(self) -> None:
        self.texts: list[tuple[int, str]] = []
        self.is_lost = False
        self.tried = asyncio.Event()

    def __call__(self, text: str) -> None:
        self.tried.set()
        if self.is_lost:
            raise LeaseLostError
        self.texts.append((loop_time_ms(), text))

    async def next(self) -> None:
        self.tried.clear()
        await self.tried.wait()


@in_jumping_time
async def test_window_starts_with_the_first_piece_that_waits() -> None:
    sent = Sent()
    coalescer = TextCoalescer(sent, lambda: 0.0)
    coalescer.push("a")

    for piece in ("b", "c", "d"):
        await asyncio.sleep(0.010)
        coalescer.push(piece)
    await sent.next()

    assert sent.texts == [(0, "a"), (35, "bcd")]


@in_jumping_time
async def test_each_window_is_one_event() -> None:
    sent = Sent()
    coalescer = TextCoalescer(sent, lambda: 0.0)
    coalescer.push("a")

    coalescer.push("b")
    await sent.next()
    coalescer.push("c")
    coalescer.push("d")
    await sent.next()

    assert sent.texts == [(0, "a"), (25, "b"), (50, "cd")]


@in_jumping_time
async def test_a_window_that_closed_leaves_no_timer_to_cut_the_next_one_short() -> None:
    sent = Sent()
    coalescer = TextCoalescer(sent, lambda: 0.0)
    coalescer.push("a")

    for piece in ("b", "c"):
        coalescer.push(piece)
        await asyncio.sleep(0.010)
    await sent.next()
    coalescer.push("d")
    await sent.next()

    assert sent.texts == [(0, "a"), (25, "bc"), (50, "d")]


@pytest.mark.parametrize(("load", "at_ms"), [(-1.0, 25), (0.0, 25), (0.4, 55), (1.0, 100), (7.0, 100)])
def test_text_waits_longer_where_more_runs_are(load: float, at_ms: int) -> None:
    @in_jumping_time
    async def run() -> None:
        sent = Sent()
        coalescer = TextCoalescer(sent, lambda: load)
        coalescer.push("a")
        coalescer.push("b")
        await sent.next()

        assert sent.texts == [(0, "a"), (at_ms, "b")]

    run()


@given(st.floats(0, 1), st.floats(0, 1))
def test_window_widens_with_load(one: float, other: float) -> None:
    assert window_s(min(one, other)) <= window_s(max(one, other))


@in_jumping_time
async def test_flush_sends_what_waits_now_and_its_timer_sends_nothing_more() -> None:
    sent = Sent()
    coalescer = TextCoalescer(sent, lambda: 0.0)
    for piece in ("a", "b", "c"):
        coalescer.push(piece)

    coalescer.flush()
    coalescer.flush()
    await asyncio.sleep(1.0)

    assert sent.texts == [(0, "a"), (0, "bc")]


@in_jumping_time
async def test_nothing_goes_out_after_the_timer_is_discarded() -> None:
    sent = Sent()
    coalescer = TextCoalescer(sent, lambda: 0.0)
    coalescer.push("a")
    coalescer.push("b")

    coalescer.discard_timer()
    await asyncio.sleep(1.0)

    assert sent.texts == [(0, "a")]


@in_jumping_time
async def test_a_lease_that_came_back_does_not_undo_what_the_timer_lost() -> None:
    """The text it held is gone, so going on would leave a hole in the answer."""
    sent = Sent()
    coalescer = TextCoalescer(sent, lambda: 0.0)
    coalescer.push("a")
    coalescer.push("b")
    sent.is_lost = True
    await sent.next()
    sent.is_lost = False

    with pytest.raises(LeaseLostError):
        coalescer.push("c")
    with pytest.raises(LeaseLostError):
        coalescer.flush()

    assert sent.texts == [(0, "a")]


@in_jumping_time
async def test_lease_lost_at_the_first_piece_is_raised_at_once() -> None:
    sent = Sent()
    sent.is_lost = True

    with pytest.raises(LeaseLostError):
        TextCoalescer(sent, lambda: 0.0).push("a")


Step = str | int | None
_STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(st.text(min_size=1, max_size=5), st.integers(0, 120), st.none()), max_size=30
)


@settings(max_examples=80, deadline=None)
@given(_STEPS)
@in_jumping_time
async def test_no_text_is_lost_repeated_or_held_back_for_more_than_a_window(steps: list[Step]) -> None:
    """A step is a piece, a pause in milliseconds, or None for a flush."""
    sent = Sent()
    coalescer = TextCoalescer(sent, lambda: 1.0)
    pushed: list[tuple[int, str]] = []

    for step in steps:
        match step:
            case str():
                pushed.append((loop_time_ms(), step))
                coalescer.push(step)
            case int():
                await asyncio.sleep(step / 1_000)
            case None:
                coalescer.flush()
    await asyncio.sleep(0.2)

    assert "".join(text for _, text in sent.texts) == "".join(text for _, text in pushed)
    arrivals = [at for at, text in sent.texts for _ in text]
    departures = [at for at, text in pushed for _ in text]
    assert all(0 <= arrived - left <= 101 for arrived, left in zip(arrivals, departures, strict=True))
