"""Retries by tenacity, which is used only after the first try has failed."""

from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying


async def with_retries[T](
    action: Callable[[], Awaitable[T]], retrying: Callable[[], AsyncRetrying], *, on: type[Exception]
) -> T:
    """The action's result. `retrying` is called if the first try raises `on`, and counts that try as its first.

    Creating and calling an AsyncRetrying takes 35 µs, several times per turn, and usually the first try succeeds. It
    cannot be shared, because concurrent calls would mix up its state.
    """
    try:
        return await action()
    except on as error:
        failures = [error]

    # tenacity awaits only coroutine functions; it would return a lambda's awaitable unawaited.
    async def again() -> T:
        if failures:
            raise failures.pop()
        return await action()

    return await retrying()(again)
