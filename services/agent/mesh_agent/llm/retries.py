"""When a model is asked again after an error, and how long to wait before."""

import asyncio
from typing import Any, Final

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    wait_exponential_jitter,
)
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from mesh_agent.llm.provider_errors import TIMED_OUT, ProviderError

_TRIES = 3
# If a provider requests a longer wait, the next model is called instead.
_MAX_RETRY_AFTER_S = 2.0
# The same if there is no other model. A longer wait is the client's.
_MAX_RETRY_AFTER_ALONE_S = 10.0


def retrying(*, is_alone: bool, deadline_s: float) -> AsyncRetrying:
    """Retries of one model, within the attempt's deadline. `is_alone`: no other model can be called instead."""

    def is_retryable(error: BaseException) -> bool:
        return isinstance(error, ProviderError) and _may_repeat(error, is_alone=is_alone)

    return AsyncRetrying(
        stop=stop_any(stop_after_attempt(_TRIES), _stop_before(deadline_s)),
        wait=_WAIT,
        retry=retry_if_exception(is_retryable),
        reraise=True,
    )


class _stop_before(stop_base):  # noqa: N801 - tenacity's naming of stops
    """Stops when the next try would begin at the deadline or later."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s

    def __call__(self, retry_state: RetryCallState) -> bool:
        return asyncio.get_running_loop().time() + retry_state.upcoming_sleep >= self._deadline_s


def _may_repeat(error: ProviderError, *, is_alone: bool) -> bool:
    if not error.is_retryable or error.has_spoken:
        return False
    if error.reason == TIMED_OUT and not is_alone:
        # A user has waited for seconds already, and a silent model mostly stays silent.
        return False
    max_wait_s = _MAX_RETRY_AFTER_ALONE_S if is_alone else _MAX_RETRY_AFTER_S
    return (error.retry_after_s or 0.0) <= max_wait_s


class _wait_as_requested(wait_base):  # noqa: N801 - tenacity's naming of waits
    """The provider's Retry-After if it sent one, else exponential back-off with jitter."""

    def __init__(self) -> None:
        self._backoff = wait_exponential_jitter(multiplier=0.2, max=2.0, jitter=0.2)

    def __call__(self, retry_state: Any) -> float:
        error = retry_state.outcome.exception()
        requested_s: float | None = getattr(error, "retry_after_s", None)
        return requested_s if requested_s is not None else self._backoff(retry_state)


_WAIT: Final = _wait_as_requested()
