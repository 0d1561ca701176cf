"""A tool elsewhere, which gets its arguments as they are."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool


class RemoteTool(BaseTool):
    """`args_schema` is a JSON Schema, against which the registry has checked the arguments.

    LangChain's own way to a function gives parameters named `config`, `run_manager` or `self` another meaning; others
    choose the names here.
    """

    call: Callable[[Mapping[str, Any]], Awaitable[str]]

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> str:  # noqa: A002, ARG002 - LangChain's names
        return await self.call(input)

    def _run(self, *_: Any, **__: Any) -> str:
        raise NotImplementedError
