from hypothesis import given
from hypothesis import strategies as st
from mesh_common.events.model import Position

_numbers = st.integers(0, 50)


@given(_numbers, _numbers)
def test_a_position_holds_within_its_own_attempt(attempt: int, seq: int) -> None:
    assert Position(attempt, seq).seq_within(attempt) == seq


@given(_numbers, st.integers(1, 50), _numbers)
def test_a_position_in_another_attempt_gives_this_one_whole(attempt: int, apart: int, seq: int) -> None:
    """Events seen of another attempt are void."""
    assert Position(attempt + apart, seq).seq_within(attempt) == 0
    assert Position(attempt, seq).seq_within(attempt + apart) == 0


def test_no_position_is_before_the_first_event() -> None:
    assert Position().seq_within(1) == 0
