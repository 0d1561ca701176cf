"""The tool `fetch_url`: the text of a public page, marked as written by others."""

import asyncio
from dataclasses import dataclass

from langchain_core.tools import tool

from mesh_agent.metrics import FETCHES
from mesh_agent.tools.call import max_result_chars
from mesh_agent.tools.tool import Tool, of_function
from mesh_agent.tools.web.charsets import decoded
from mesh_agent.tools.web.dialing import Dialer
from mesh_agent.tools.web.download import Download, download
from mesh_agent.tools.web.errors import FetchError, FetchOutcome
from mesh_agent.tools.web.extractor import Extractor, PageText
from mesh_agent.tools.web.kinds import kind_of
from mesh_agent.tools.web.untrusted import marked


@dataclass(frozen=True, slots=True)
class Fetcher:
    """`timeout_s` bounds a whole fetch, with its redirects and the extraction of the text."""

    dialer: Dialer
    extractor: Extractor
    timeout_s: float
    max_bytes: int

    async def __call__(self, url: str) -> str:
        """Raises FetchError."""
        try:
            text = await self._fetched(url)
        except FetchError as error:
            FETCHES.labels(error.outcome).inc()
            raise
        FETCHES.labels(FetchOutcome.OK).inc()
        return text

    async def _fetched(self, url: str) -> str:
        try:
            async with asyncio.timeout(self.timeout_s):
                page = await download(url, self.dialer, self.max_bytes)
                content = await self._content(page)
        except TimeoutError as error:
            text = f"The page could not be read within {self.timeout_s:g} s."
            raise FetchError(FetchOutcome.TIMEOUT, text) from error
        title = f"Title: {content.title}\n" if content.title else ""
        return marked(f"{title}URL: {page.url}\n\n{content.text}", max_result_chars())

    async def _content(self, page: Download) -> PageText:
        kind, charset = kind_of(page.content_type, page.body)
        text = decoded(page.body, charset, kind)
        if kind != "html":
            return PageText("", text)
        content = await self.extractor.text_of(text, str(page.url))
        if not content.text:
            raise FetchError(FetchOutcome.UNREADABLE, "The page contains no text; it may need JavaScript.")
        return content


def fetch_url_tool(fetcher: Fetcher) -> Tool:
    @tool
    async def fetch_url(url: str) -> str:
        """The text of a public web page, JSON, XML, Markdown or text document. `url` begins with http:// or https://."""
        return await fetcher(url)

    return of_function(fetch_url)
