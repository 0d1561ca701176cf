"""What holding a lease means for those who write: go on trying while it holds, stop the moment it does not."""

from collections.abc import Awaitable, Callable

from mesh_common.errors import Unavailable
from mesh_common.retrying import with_retries
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from mesh_agent.attempt_log import LeaseLostError


async def while_lease_holds[T](holds_lease: Callable[[], bool], action: Callable[[], Awaitable[T]]) -> T:
    """The action's result, tried again while the database is away and the lease holds.

    Raises LeaseLostError when the lease ran out: another replica takes the run over from its last safe point.
    """

    def lease_is_over(_: RetryCallState) -> bool:
        return not holds_lease()

    def retrying() -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_exponential(multiplier=0.1, max=1.0),
            stop=lease_is_over,
            reraise=True,
        )

    try:
        return await with_retries(action, retrying, on=Unavailable)
    except Unavailable as error:
        raise LeaseLostError from error
