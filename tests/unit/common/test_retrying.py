"""Retries happen as tenacity defines them, without the cost of tenacity if the first try succeeds."""

from dataclasses import dataclass, field

import pytest
from mesh_common.retrying import with_retries
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_none


@dataclass
class Flaky:
    """Fails `failures` times, each time with another error."""

    failures: list[Exception] = field(default_factory=list)
    tries: int = 0
    retryings: int = 0

    async def __call__(self) -> str:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    def retrying(self) -> AsyncRetrying:
        self.retryings += 1
        return AsyncRetrying(
            stop=stop_after_attempt(3), wait=wait_none(), retry=retry_if_exception_type(OSError), reraise=True
        )


async def test_first_try_that_goes_well_makes_no_retrying() -> None:
    action = Flaky()

    assert await with_retries(action, action.retrying, on=OSError) == "done"
    assert (action.tries, action.retryings) == (1, 0)


async def test_first_failure_is_the_first_of_the_tries() -> None:
    action = Flaky([OSError("1"), OSError("2")])

    assert await with_retries(action, action.retrying, on=OSError) == "done"
    assert (action.tries, action.retryings) == (3, 1)


async def test_last_failure_is_raised() -> None:
    action = Flaky([OSError("1"), OSError("2"), OSError("3"), OSError("4")])

    with pytest.raises(OSError, match="3"):
        await with_retries(action, action.retrying, on=OSError)
    assert action.tries == 3


@pytest.mark.parametrize("failures", [[ValueError("x")], [OSError("1"), ValueError("x")]])
async def test_other_errors_are_not_tried_again(failures: list[Exception]) -> None:
    action, tries = Flaky(failures), len(failures)

    with pytest.raises(ValueError, match="x"):
        await with_retries(action, action.retrying, on=OSError)
    assert action.tries == tries
