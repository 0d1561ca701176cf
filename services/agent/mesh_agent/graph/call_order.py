"""Keeps calls apart that must not run next to others of the same answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CallOrder:
    """Parallel calls share it; another call waits until it is alone, in the order in which they come."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._shared = 0
        self._is_alone = False

    @asynccontextmanager
    async def entering(self, *, is_parallel: bool) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_alone and (is_parallel or not self._shared))
            if is_parallel:
                self._shared += 1
            else:
                self._is_alone = True
        try:
            yield
        finally:
            async with self._changed:
                if is_parallel:
                    self._shared -= 1
                else:
                    self._is_alone = False
                self._changed.notify_all()
