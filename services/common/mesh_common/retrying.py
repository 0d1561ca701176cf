"""Retries by tenacity, which is asked only when something went wrong."""

from collections.abc import Awaitable, Callable
from traceback import clear_frames

from tenacity import AsyncRetrying


async def with_retries[T](
    action: Callable[[], Awaitable[T]], retrying: Callable[[], AsyncRetrying], *, on: type[Exception]
) -> T:
    """The action's result; `retrying` is made when the first try raises `on`, and counts it as its first.

    Making an AsyncRetrying and calling by it takes 35 µs, several times a turn, and mostly the first try is the only
    one. It is not shared instead, for calls at the same time would mix their state up.
    """
    try:
        return await action()
    except on as error:
        failures = [error]

    # tenacity awaits coroutine functions only: what a lambda returns it would give back unawaited.
    async def again() -> T:
        if failures:
            raise failures.pop()
        return await action()

    try:
        result: T = await retrying()(again)
    except BaseException as error:
        # tenacity keeps it in frames that its traceback holds: a cycle, with all that the action knew.
        clear_frames(error.__traceback__)
        raise
    return result
