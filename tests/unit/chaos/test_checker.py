"""Good histories made by hand have no violations; `test_rules_*` spoils them."""

import pytest
from chaos.checker import check
from chaos.history import History
from support.histories import cancelled, failed_without_text, good, seen, stored, unknown_call


@pytest.mark.parametrize("history", [good(), cancelled(), failed_without_text(), unknown_call(), History()])
def test_good_histories_have_no_violations(history: History) -> None:
    assert check(history) == []


def test_unknown_call_may_have_left_no_mark() -> None:
    history = unknown_call()
    history.marks = history.marks[1:]

    assert check(history) == []


def test_cancelled_before_anyone_had_it_just_ends() -> None:
    history = cancelled()
    history.streams[0].events = seen("r1", 1, ("run_cancelled", {}))
    history.runs = [stored("r1", status="cancelled", attempt=0, started_at="", content=None)]
    history.messages = history.messages[:1]

    assert check(history) == []
