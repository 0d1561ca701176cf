"""The limit on pending runs: what takes a slot and what frees it."""

from typing import cast

import pytest
from mesh_agent.execution.backlog import Backlog
from mesh_common.database.postgres import Database
from mesh_common.errors import Unavailable


def _backlog(max_pending: int) -> Backlog:
    """A backlog that never counts."""
    return Backlog(cast("Database", None), max_pending)


def _join(backlog: Backlog, *, error: Unavailable | None = None) -> None:
    with backlog.joining() as take_slot:
        take_slot()
        if error:
            raise error


def test_a_run_beyond_the_bound_is_told_to_come_back() -> None:
    backlog = _backlog(2)
    _join(backlog)
    _join(backlog)

    with pytest.raises(Unavailable) as refused:
        _join(backlog)

    assert (refused.value.reason, refused.value.retry_after_s) == ("TOO_MANY_PENDING_RUNS", 5.0)


def test_runs_that_need_not_wait_are_not_refused() -> None:
    backlog = _backlog(1)
    _join(backlog)

    with backlog.joining():
        pass


def test_starts_at_the_same_time_share_the_places() -> None:
    backlog = _backlog(1)

    with backlog.joining() as first, backlog.joining() as second:
        first()
        with pytest.raises(Unavailable):
            second()


def test_a_run_that_could_not_be_stored_gives_its_place_back() -> None:
    backlog = _backlog(1)

    with pytest.raises(Unavailable, match="database"):
        _join(backlog, error=Unavailable("The database is away."))

    _join(backlog)


def test_a_run_that_is_claimed_makes_room() -> None:
    backlog = _backlog(1)
    _join(backlog)

    backlog.claimed(1)

    _join(backlog)
