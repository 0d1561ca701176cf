"""Search without a key, by `ddgs`, which reads the result pages of public search engines.

Engines block such readers at any time; a server of one's own (SearXNG) is more reliable.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import structlog

from mesh_agent.tools.web.search import SafeSearch, SearchError, SearchQuery, SearchResult

log = structlog.get_logger()

# One search uses two more threads of its own.
THREADS: Final = 4
_LEVELS: Final[dict[SafeSearch, str]] = {"off": "off", "moderate": "moderate", "strict": "on"}
# The text of ddgs for an empty list, which it raises as an error.
_NO_RESULTS: Final = "No results found"


@dataclass(frozen=True, slots=True)
class DDGSearch:
    """`backends` are named, because the default starts with encyclopedias only.

    `threads` are not the loop's, so that slow engines cannot delay the resolution of names. A thread cannot be
    cancelled; `timeout_s` bounds each of its requests.
    """

    backends: Sequence[str]
    timeout_s: float
    threads: ThreadPoolExecutor

    async def search(self, query: SearchQuery) -> Sequence[SearchResult]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(2 * self.timeout_s):
                return await loop.run_in_executor(self.threads, self._searched, query)
        except TimeoutError as error:
            raise SearchError("The search did not answer in time. Try again later.") from error

    def _searched(self, query: SearchQuery) -> list[SearchResult]:
        # Imported at the first search: it takes 28 MB on disk and is rarely used.
        from ddgs import DDGS  # noqa: PLC0415
        from ddgs.exceptions import DDGSException, TimeoutException  # noqa: PLC0415

        try:
            found = DDGS(timeout=max(1, round(self.timeout_s))).text(
                query.text,
                region=query.region,
                safesearch=_LEVELS[query.safe_search],
                max_results=query.results,
                backend=",".join(self.backends),
            )
        except TimeoutException as error:
            raise SearchError("The search did not answer in time. Try again later.") from error
        except DDGSException as error:
            if _NO_RESULTS in str(error):
                return []
            log.warning("web_search.failed", provider="ddgs", error=type(error).__name__)
            raise SearchError("The search failed. Try again later.") from error
        return [_result(each) for each in found if each.get("href")]


def _result(each: dict[str, Any]) -> SearchResult:
    return SearchResult(str(each.get("title") or ""), str(each["href"]), str(each.get("body") or ""))
