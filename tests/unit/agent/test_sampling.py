"""Which runs are judged."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from mesh_agent.execution.ending import is_sampled
from mesh_common.ids import RunId, new_id

_runs = st.uuids().map(RunId)


@given(_runs)
def test_none_is_judged_at_zero_and_every_one_at_one(run_id: RunId) -> None:
    assert not is_sampled(run_id, 0.0)
    assert is_sampled(run_id, 1.0)


@given(_runs, st.floats(0, 1))
def test_whoever_asks_gets_the_same_answer(run_id: RunId, ratio: float) -> None:
    assert is_sampled(run_id, ratio) == is_sampled(RunId(UUID(str(run_id))), ratio)


@given(_runs, st.floats(0, 1), st.floats(0, 1))
def test_a_run_that_is_judged_is_so_at_any_higher_ratio(run_id: RunId, one: float, other: float) -> None:
    low, high = sorted((one, other))

    assert is_sampled(run_id, low) <= is_sampled(run_id, high)


def test_about_the_ratio_of_runs_made_in_a_row_is_judged() -> None:
    """Ids of one millisecond share their first half. For 2,000 runs at 0.3 the limits are six standard deviations."""
    judged = sum(is_sampled(RunId(new_id()), 0.3) for _ in range(2_000))

    assert 477 <= judged <= 723
