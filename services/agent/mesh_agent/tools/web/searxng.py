"""Search by the operator's SearXNG, through its JSON API (`/search?format=json`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
import structlog
from yarl import URL

from mesh_agent.tools.web.search import SafeSearch, SearchError, SearchQuery, SearchResult

log = structlog.get_logger()

_MAX_BYTES: Final = 2_000_000
_LEVELS: Final[dict[SafeSearch, str]] = {"off": "0", "moderate": "1", "strict": "2"}
# Countries and languages that search engines write differently from ISO 3166 and BCP 47.
_COUNTRIES: Final = {"uk": "GB"}
_LANGUAGES: Final = {"jp": "ja", "kr": "ko", "tzh": "zh"}
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class SearXNG:
    """`url` is the server's root. The operator named it, so it may be in a private network."""

    url: URL
    session: aiohttp.ClientSession
    timeout_s: float

    async def search(self, query: SearchQuery) -> Sequence[SearchResult]:
        try:
            async with self.session.get(
                self.url / "search",
                params={
                    "q": query.text,
                    "format": "json",
                    "language": language_of(query.region),
                    "safesearch": _LEVELS[query.safe_search],
                },
                timeout=aiohttp.ClientTimeout(total=self.timeout_s),
                allow_redirects=False,
            ) as response:
                status, body = response.status, await _body(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SearchError("The search cannot be reached. Try again later.") from error
        if status != _OK:
            # 403 if the operator has not enabled `json` in `search.formats`; 429 by its limiter.
            log.warning("web_search.refused", provider="searxng", status=status)
            raise SearchError("The search refused the query. Try again later.")
        return _results(body)[: query.results]


def language_of(region: str) -> str:
    """BCP 47, as SearXNG has it: `en-US` for `us-en`."""
    country, _, language = region.partition("-")
    return f"{_LANGUAGES.get(language, language)}-{_COUNTRIES.get(country, country.upper())}"


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise aiohttp.ClientPayloadError("longer than any list of results")
    return bytes(body)


def _results(body: bytes) -> list[SearchResult]:
    try:
        results = orjson.loads(body)["results"]
        return [_result(each) for each in results if each.get("url")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("web_search.unreadable", provider="searxng")
        raise SearchError("The search gave an answer that cannot be read.") from error


def _result(each: dict[str, Any]) -> SearchResult:
    return SearchResult(str(each.get("title") or ""), str(each["url"]), str(each.get("content") or ""))
