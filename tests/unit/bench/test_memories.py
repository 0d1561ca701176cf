"""Which memories count as found, determined by comparing all of them."""

import numpy as np
import pytest
from bench.memories import Owner
from mesh_common.ids import UserId, new_id

IDS = [new_id() for _ in range(4)]
QUERY = np.array([1.0, 0.0], dtype=np.float32)


@pytest.fixture
def owner() -> Owner:
    """Memories from the nearest to the farthest; the second and third are equally near."""
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6], [0.0, 1.0]], dtype=np.float32)
    return Owner(UserId(new_id()), IDS, vectors)


@pytest.mark.parametrize(
    ("found", "share"),
    [
        ([0, 1], 1.0),
        ([0, 2], 1.0),
        ([0, 3], 0.5),
        ([0, 0], 0.5),
        ([3], 0.0),
        ([], 0.0),
    ],
)
def test_share_of_the_nearest_that_was_found(owner: Owner, found: list[int], share: float) -> None:
    assert owner.share_found(QUERY, [IDS[number] for number in found], limit=2) == share


def test_memory_of_another_user_is_not_one_that_was_found(owner: Owner) -> None:
    assert owner.share_found(QUERY, [IDS[0], new_id()], limit=2) == 0.5


def test_a_user_with_few_memories_has_all_of_them_found(owner: Owner) -> None:
    assert owner.share_found(QUERY, IDS, limit=10) == 1.0
