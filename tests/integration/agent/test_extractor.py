"""The processes that extract texts: bounded, killable, without the agent's environment."""

import asyncio
import time

import pytest
from mesh_agent.tools.web.errors import FetchError
from mesh_agent.tools.web.extractor import Extractor

LARGE = "<body><article>" + "<h2>Part</h2><p>A sentence with <a href='/l'>a link</a> in it.</p>" * 32_000


async def test_page_of_two_megabytes_leaves_the_loop_free() -> None:
    cpu_s = time.thread_time()

    page = await Extractor(deadline_s=60.0).text_of(LARGE, "https://example.com/")

    # What the loop itself spends: passing the page on. Parsing it here takes seconds.
    assert time.thread_time() - cpu_s < 0.5
    assert len(LARGE) > 2_000_000
    assert page.text.startswith("Part\nA sentence with a link in it.")


async def test_process_ends_at_the_deadline() -> None:
    extractor = Extractor(deadline_s=0.01, at_once=1)

    with pytest.raises(FetchError, match="cannot be read"):
        await extractor.text_of(LARGE, "https://example.com/")


async def test_cancelled_extraction_gives_its_slot_back() -> None:
    extractor = Extractor(deadline_s=60.0, at_once=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await extractor.text_of(LARGE, "https://example.com/")

    assert (await extractor.text_of("<p>next", "https://example.com/")).text == "next"


@pytest.mark.parametrize("html", ["", "\x00", "<", "<div>" * 100_000, "<p>" + "&a" * 100_000, "\ud800<p>x"])
async def test_broken_page_is_a_text_or_an_error(html: str) -> None:
    try:
        page = await Extractor(deadline_s=60.0).text_of(html, "https://example.com/")
    except FetchError:
        return
    assert isinstance(page.text, str)
