"""The tools for the web that the settings enable, with what they hold open."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import aiohttp
from yarl import URL

from mesh_agent.domain.tools import Effect
from mesh_agent.tools.registry import MeshTool
from mesh_agent.web_settings import WebSettings

# Above the limits of the tools themselves, whose texts say more.
_MARGIN_S = 2.0


async def open_web_tools(stack: AsyncExitStack, settings: WebSettings) -> list[MeshTool]:
    """Imports nothing for tools that are off."""
    tools = []
    if settings.web_fetch:
        tools.append(_fetch_url(settings))
    if settings.web_search_provider:
        tools.append(await _web_search(stack, settings))
    return tools


def _fetch_url(settings: WebSettings) -> MeshTool:
    from mesh_agent.tools.web.dialing import Dialer  # noqa: PLC0415
    from mesh_agent.tools.web.extractor import Extractor  # noqa: PLC0415
    from mesh_agent.tools.web.fetch import Fetcher, fetch_url_tool  # noqa: PLC0415
    from mesh_agent.tools.web.places import places  # noqa: PLC0415

    allowed = places(settings.web_allow, settings.web_deny, settings.web_ports, only_allowed=settings.web_only_allowed)
    dialer = Dialer(allowed)
    fetcher = Fetcher(dialer, Extractor(), settings.web_timeout_s, settings.web_max_bytes)
    return MeshTool(fetch_url_tool(fetcher), Effect.NONE, settings.web_timeout_s + _MARGIN_S)


async def _web_search(stack: AsyncExitStack, settings: WebSettings) -> MeshTool:
    from mesh_agent.tools.web.search import SearchPolicy, SearchProvider, web_search_tool  # noqa: PLC0415

    provider: SearchProvider
    if settings.web_search_provider == "searxng":
        from mesh_agent.tools.web.searxng import SearXNG  # noqa: PLC0415

        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        provider = SearXNG(URL(str(settings.web_searxng_url)), session, settings.web_timeout_s)
    else:
        from mesh_agent.tools.web.ddgs_search import THREADS, DDGSearch  # noqa: PLC0415

        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="web_search")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        provider = DDGSearch(settings.web_ddgs_backends, settings.web_timeout_s / 2, threads)
    policy = SearchPolicy(settings.web_search_region, settings.web_safe_search, settings.web_search_results)
    return MeshTool(web_search_tool(provider, policy), Effect.NONE, settings.web_timeout_s + _MARGIN_S)
