"""What addresses may make a replica do without an account."""

from datetime import timedelta

import pytest
from fakes.clock import FakeClock
from mesh_common.errors import RateLimited
from mesh_gateway.limits import address_budget
from mesh_gateway.limits.address_budget import AddressBudget

HERE, THERE = "198.51.100.1", "2001:db8::/64"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def budget(clock: FakeClock) -> AddressBudget:
    return AddressBudget("documents", 3, clock)


def spend(budget: AddressBudget, address: str, times: int) -> None:
    for _ in range(times):
        budget.require(address)
        budget.spend(address)


def test_address_that_has_spent_its_budget_is_refused_alone(budget: AddressBudget, clock: FakeClock) -> None:
    spend(budget, HERE, 3)
    clock.advance(timedelta(seconds=20))

    with pytest.raises(RateLimited) as caught:
        budget.require(HERE)

    assert caught.value.retry_after_s == pytest.approx(40)
    spend(budget, THERE, 3)


def test_next_minute_has_a_budget_of_its_own(budget: AddressBudget, clock: FakeClock) -> None:
    for _ in range(3):
        spend(budget, HERE, 3)
        with pytest.raises(RateLimited):
            budget.require(HERE)
        clock.advance(timedelta(seconds=60))


def test_addresses_are_bounded(budget: AddressBudget) -> None:
    spend(budget, HERE, 3)
    for number in range(address_budget.MAX_ADDRESSES - 1):
        budget.spend(str(number))
    with pytest.raises(RateLimited):
        budget.require(HERE)

    budget.spend("one more")

    budget.require(HERE)
    assert len(budget.spent) == address_budget.MAX_ADDRESSES
