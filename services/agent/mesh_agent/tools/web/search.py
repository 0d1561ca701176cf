"""The tool `web_search`, over any search provider."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from langchain_core.tools import ToolException, tool

from mesh_agent.tools.call import max_result_chars
from mesh_agent.tools.tool import Tool, of_function
from mesh_agent.tools.web.untrusted import marked

SafeSearch = Literal["off", "moderate", "strict"]

_REGION: Final = re.compile(r"^[a-z]{2}-[a-z]{2,3}$")
_MAX_QUERY_CHARS: Final = 500
_MAX_TITLE_CHARS: Final = 200
_MAX_URL_CHARS: Final = 2_048
_MAX_SNIPPET_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """`region` is `<country>-<language>` in lower case, e.g. `de-de`; `results` the most that are returned."""

    text: str
    region: str
    safe_search: SafeSearch
    results: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    title: str
    url: str
    snippet: str


class SearchProvider(Protocol):
    async def search(self, query: SearchQuery) -> Sequence[SearchResult]:
        """Best first; empty if nothing is found. Raises SearchError. Bounds its own time."""


class SearchError(ToolException):
    """The provider gave no results. The text is for the model."""


@dataclass(frozen=True, slots=True)
class SearchPolicy:
    region: str
    safe_search: SafeSearch
    results: int


def web_search_tool(provider: SearchProvider, policy: SearchPolicy) -> Tool:
    @tool
    async def web_search(query: str, region: str = "") -> str:
        """Searches the web. Results have a title, a URL and a snippet.

        `region` prefers results of a country in a language, e.g. `us-en` or `de-de`.
        """
        asked = _query(query, region, policy)
        found = await provider.search(asked)
        return _text(found[: asked.results])

    return of_function(web_search)


def _query(text: str, region: str, policy: SearchPolicy) -> SearchQuery:
    text, region = " ".join(text.split()), region.lower() or policy.region
    if not text or len(text) > _MAX_QUERY_CHARS:
        raise ToolException(f"The query must have 1 to {_MAX_QUERY_CHARS} characters.")
    if not _REGION.match(region):
        raise ToolException("The region must be a country and a language, e.g. us-en or de-de.")
    return SearchQuery(text, region, policy.safe_search, policy.results)


def _text(results: Sequence[SearchResult]) -> str:
    if not results:
        return "Nothing was found."
    return marked("\n".join(_line(number, result) for number, result in enumerate(results, 1)), max_result_chars())


def _line(number: int, result: SearchResult) -> str:
    """Each part is one line, so that a snippet cannot imitate another result."""
    title = _one_line(result.title, _MAX_TITLE_CHARS)
    url = _one_line(result.url, _MAX_URL_CHARS)
    return f"{number}. {title}\n   {url}\n   {_one_line(result.snippet, _MAX_SNIPPET_CHARS)}"


def _one_line(text: str, max_chars: int) -> str:
    return " ".join(text.split())[:max_chars]
