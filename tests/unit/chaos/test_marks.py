"""The marks server, as tools call it and as tests elsewhere read it."""

import time
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
from chaos.history import Mark
from chaos.marks import TOOLS, MarkServer, open_marks, tools_setting


@pytest.fixture
async def server() -> AsyncIterator[MarkServer]:
    async with open_marks() as opened:
        yield opened


@pytest.fixture
async def http(server: MarkServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session


async def test_a_call_leaves_a_mark_with_its_key(server: MarkServer, http: aiohttp.ClientSession) -> None:
    answer = await http.post("/mark_once", json={"token": "t1"}, headers={"Idempotency-Key": "k1"})

    assert await answer.text() == "marked t1"
    [mark] = server.take()
    assert mark == Mark(tool="mark_once", key="k1", token="t1", at_s=mark.at_s)
    assert server.take() == []


async def test_marks_are_listed_with_both_clocks_until_they_are_deleted(http: aiohttp.ClientSession) -> None:
    await http.post("/mark_idempotent", json={"token": "t1"})

    [listed] = await (await http.get("/marks")).json()
    deleted = await http.delete("/marks")
    after = await (await http.get("/marks")).json()

    assert (listed["tool"], listed["key"], listed["token"]) == ("mark_idempotent", "", "t1")
    assert listed["at_s"] == pytest.approx(time.monotonic(), abs=60)
    assert listed["wall_s"] == pytest.approx(time.time(), abs=60)
    assert deleted.status == 204
    assert after == []


async def test_probes_leave_no_mark(server: MarkServer, http: aiohttp.ClientSession) -> None:
    answer = await http.get("/healthz")

    assert answer.status == 200
    assert server.take() == []


def test_the_setting_leads_each_tool_to_its_own_path() -> None:
    tools = orjson.loads(tools_setting("http://marks:8091"))

    assert {tool["url"]: tool["effect"] for tool in tools} == {
        f"http://marks:8091/{name}": effect for name, effect in TOOLS.items()
    }
