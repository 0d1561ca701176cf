"""The bytes that a faulty stream sends, and the tokens counted for it."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from simulator.client import SimulatorAdmin


def chat(message: str = "Hi", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": message}]} | fields


async def read(http: httpx.AsyncClient, message: str) -> tuple[list[str], bool]:
    """The data of all events, and whether the stream was closed correctly by HTTP's rules."""
    events: list[str] = []
    try:
        async with http.stream("POST", "/v1/chat/completions", json=chat(message)) as response:
            async for line in response.aiter_lines():
                events += [line.removeprefix("data: ")] if line else []
    except httpx.RemoteProtocolError:
        return events, False
    return events, True


def contents(events: list[str]) -> list[str]:
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events if event.startswith("{")]
    return [delta["content"] for delta in deltas if delta.get("content")]


def finish_reasons(events: list[str]) -> list[str]:
    reasons = [json.loads(event)["choices"][0]["finish_reason"] for event in events if event.startswith("{")]
    return [reason for reason in reasons if reason]


async def test_a_cut_comes_after_its_tokens_without_finish_reason(
    http: httpx.AsyncClient, admin: SimulatorAdmin
) -> None:
    events, is_clean = await read(http, "[[sim:fault=cut@3]]")

    assert (len(contents(events)), finish_reasons(events), is_clean) == (3, [], False)
    stats = await admin.stats()
    assert (stats["tokens"], stats["faults"], stats["streams_open"]) == (3, {"cut": 1}, 0)


async def test_a_cut_may_come_after_the_finish_reason(http: httpx.AsyncClient, admin: SimulatorAdmin) -> None:
    await admin.put_rules([{"action": {"fault": "cut", "after_tokens": 3, "with_finish": True}}])

    events, is_clean = await read(http, "Hi")

    assert (finish_reasons(events), events[-1] == "[DONE]", is_clean) == (["stop"], False, False)


async def test_an_early_end_closes_cleanly_without_finish_reason(http: httpx.AsyncClient) -> None:
    events, is_clean = await read(http, "[[sim:fault=end_early@4]]")

    assert (len(contents(events)), finish_reasons(events), events[-1] == "[DONE]", is_clean) == (4, [], False, True)


async def test_garbage_comes_after_its_tokens(http: httpx.AsyncClient) -> None:
    events, _ = await read(http, "[[sim:fault=garbage@2]]")

    with pytest.raises(ValueError, match="Expecting"):
        json.loads(events[-1])
    assert len(contents(events)) == 2


async def test_a_fault_that_names_no_place_comes_half_way(http: httpx.AsyncClient) -> None:
    events, _ = await read(http, "[[sim:fault=cut]]")

    assert len(contents(events)) == 5


@pytest.mark.parametrize("itl_ms", [0, 1])
async def test_a_hang_stays_silent_after_its_tokens_until_the_client_leaves(
    base_url: str, admin: SimulatorAdmin, raw_stream: Any, wait_for_stats: Any, itl_ms: int
) -> None:
    stream = await raw_stream.open(base_url, f"[[sim:fault=hang@4]] [[sim:itl={itl_ms}]]", key="k")
    await stream.read_tokens(4)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.read_tokens(1), 0.05)

    assert (await admin.stats())["streams_open"] == 1
    await stream.leave()
    stats = await wait_for_stats(admin, lambda stats: stats["streams_open"] == 0)
    assert stats["tokens_by_key"] == {"k": 4}
    assert stats["outcomes"] == {"client_left": 1}


async def test_a_hang_at_once_sends_not_even_a_status(http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/v1/chat/completions", json=chat("[[sim:fault=hang]]"), timeout=0.1)


async def test_tokens_sent_before_the_client_left_stay_counted_and_no_more_are_sent(
    base_url: str, admin: SimulatorAdmin, raw_stream: Any, wait_for_stats: Any
) -> None:
    stream = await raw_stream.open(base_url, "[[sim:tokens=100000]] [[sim:itl=2]]", key="left")
    await stream.read_tokens(5)
    await stream.leave()

    stats = await wait_for_stats(admin, lambda stats: stats["streams_open"] == 0)

    sent = stats["tokens_by_key"]["left"]
    assert 5 <= sent < 100
    record = (await admin.requests())[-1]
    assert (record["outcome"], record["tokens"], record["key"]) == ("client_left", sent, "left")
    # A second, shorter stream gives late tokens of the first one the time to be counted.
    other = await raw_stream.open(base_url, "[[sim:tokens=10]] [[sim:itl=2]]")
    await other.read_tokens(10)
    assert (await admin.stats())["tokens_by_key"]["left"] == sent
    await other.leave()


async def test_a_client_that_does_not_read_holds_an_unpaced_stream_back(
    base_url: str, admin: SimulatorAdmin, raw_stream: Any, wait_for_stats: Any
) -> None:
    stream = await raw_stream.open(base_url, "[[sim:tokens=100000]]", key="slow")
    await stream.read_tokens(1)

    held = (await admin.stats())["tokens_by_key"]["slow"]

    assert held < 100_000
    await stream.read_tokens(99_999)
    stats = await wait_for_stats(admin, lambda stats: stats["streams_open"] == 0)
    assert stats["tokens_by_key"]["slow"] == 100_000
    assert stats["outcomes"] == {"completed": 1}
    await stream.leave()


async def test_a_paced_stream_keeps_its_pace(base_url: str, raw_stream: Any) -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    stream = await raw_stream.open(base_url, "[[sim:ttft=60]] [[sim:itl=10]]")

    await stream.read_tokens(1)
    first_s = loop.time() - started_s
    await stream.read_tokens(9)
    last_s = loop.time() - started_s

    assert first_s >= 0.058
    # Nine gaps. An upper bound would fail on a busy machine and prove nothing.
    assert last_s >= 0.148
    await stream.leave()


async def test_fault_rates_hit_their_share_of_requests(open_with: Any) -> None:
    async with (
        open_with(fault_rates={"503": 0.5}, seed=5) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        statuses = [(await http.post("/v1/chat/completions", json=chat())).status_code for _ in range(60)]

    assert 15 < statuses.count(503) < 45
    assert statuses.count(200) == 60 - statuses.count(503)
