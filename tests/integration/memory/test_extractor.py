"""mem0 against the simulator's OpenAI server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from mem0.memory import telemetry
from mesh_common.errors import InvalidInput, Unavailable
from mesh_memory.domain import Message, Origin, Speaker
from mesh_memory.extractor import Mem0Extractor, open_extractor
from mesh_memory.settings import MemorySettings
from simulator.client import SimulatorAdmin

SENTENCE = "My name is Ada and my code word is zebra-4711."


@pytest.fixture
async def simulator(simulator_url: str) -> AsyncIterator[SimulatorAdmin]:
    async with SimulatorAdmin(simulator_url) as client:
        await client.reset()
        yield client
        await client.reset()


@pytest.fixture
async def extractor(settings: MemorySettings) -> AsyncIterator[Mem0Extractor]:
    async with open_extractor(settings) as extractor:
        yield extractor


@pytest.fixture
async def verbatim(settings: MemorySettings) -> AsyncIterator[Mem0Extractor]:
    async with open_extractor(settings.model_copy(update={"extraction_model": ""})) as extractor:
        yield extractor


def _turn(said: str, answer: str = "I see.") -> list[Message]:
    return [Message(Speaker.USER, said), Message(Speaker.ASSISTANT, answer)]


async def _chat_bodies(simulator: SimulatorAdmin) -> list[dict[str, Any]]:
    return [request["body"] for request in await simulator.requests() if request["kind"] == "chat"]


async def _fail(simulator: SimulatorAdmin, times: int | None, **action: object) -> None:
    await simulator.put_rules([{"match": {"structured": True, "times": times}, "action": action}])


async def test_the_model_finds_the_facts_about_the_user(extractor: Mem0Extractor) -> None:
    facts = await extractor.facts(_turn(f"{SENTENCE} What is the time?"), [])

    assert facts == [SENTENCE]
    assert extractor.origin is Origin.EXTRACTED


async def test_what_the_assistant_said_is_no_fact(extractor: Mem0Extractor) -> None:
    assert await extractor.facts(_turn("Hello!", "I am your assistant."), []) == []


async def test_the_model_gets_our_short_prompt_a_schema_and_what_is_known(
    extractor: Mem0Extractor, simulator: SimulatorAdmin
) -> None:
    await extractor.facts(_turn(SENTENCE), ["The user lives in Rome."])

    [body] = await _chat_bodies(simulator)
    system, user = body["messages"]
    assert system["content"].startswith("You keep the long-term memory")
    assert len(system["content"]) < 2_000
    assert "The user lives in Rome." in user["content"]
    assert SENTENCE in user["content"]
    assert body["response_format"]["json_schema"]["strict"] is True


async def test_of_a_long_turn_the_newest_is_read(extractor: Mem0Extractor, simulator: SimulatorAdmin) -> None:
    old, new = Message(Speaker.USER, "I was old. " + "o" * 31_000), Message(Speaker.USER, f"{SENTENCE} " + "n" * 31_000)

    facts = await extractor.facts([old, new], [])

    assert SENTENCE in facts
    [body] = await _chat_bodies(simulator)
    assert len(body["messages"][1]["content"]) < 33_000


async def test_an_answer_outside_the_schema_is_asked_for_again(
    extractor: Mem0Extractor, simulator: SimulatorAdmin
) -> None:
    await _fail(simulator, 1, reply='{"memory": ["no object"]}')

    assert await extractor.facts(_turn(SENTENCE), []) == [SENTENCE]
    assert len(await _chat_bodies(simulator)) == 2


@pytest.mark.parametrize(
    "action",
    [
        {"fault": "500"},
        {"fault": "429"},
        {"fault": "cut"},
        {"fault": "garbage"},
        {"reply": "Sure! Here are the facts."},
        {"reply": "[]"},
        {"reply": '{"memory": [{"text": 1}]}'},
    ],
)
async def test_a_model_that_stays_useless_is_unavailable_never_without_facts(
    extractor: Mem0Extractor, simulator: SimulatorAdmin, action: dict[str, Any]
) -> None:
    await _fail(simulator, None, **action)

    with pytest.raises(Unavailable):
        await extractor.facts(_turn(SENTENCE), [])

    assert len(await _chat_bodies(simulator)) == 2


async def test_a_model_that_hangs_is_given_up_at_the_deadline(
    settings: MemorySettings, simulator: SimulatorAdmin
) -> None:
    await _fail(simulator, None, fault="hang")
    hasty = settings.model_copy(update={"extraction_timeout_s": 0.2, "extraction_tries": 1})

    async with asyncio.timeout(10), open_extractor(hasty) as extractor:
        with pytest.raises(Unavailable):
            await extractor.facts(_turn(SENTENCE), [])


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"]
)
async def test_a_model_that_trickles_is_given_up_at_the_deadline_and_holds_no_thread(
    settings: MemorySettings, start: bytes
) -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        changes = {"extraction_timeout_s": 0.3, "extraction_tries": 1, "extraction_concurrency": 1}
        slow = settings.model_copy(update={"openai_base_url": f"http://{host}:{port}/v1", **changes})
        async with open_extractor(slow) as extractor, asyncio.timeout(10):
            # The second call finds the only thread free.
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await extractor.facts(_turn(SENTENCE), [])


async def test_a_turn_that_the_provider_refuses_is_not_tried_again(settings: MemorySettings) -> None:
    requests = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        refused = settings.model_copy(update={"openai_base_url": f"http://{host}:{port}/v1"})
        async with open_extractor(refused) as extractor:
            with pytest.raises(InvalidInput):
                await extractor.facts(_turn(SENTENCE), [])

    assert requests == 1


async def test_facts_are_tidy_short_storable_and_each_there_once(
    extractor: Mem0Extractor, simulator: SimulatorAdmin
) -> None:
    texts = r'{"text": " I like\n tea. "}, {"text": "i like TEA."}, {"text": "a\u0000b\ud800c"}, {"text": " "}'
    long = "x" * 3_000
    await _fail(simulator, None, reply=f'{{"memory": [{texts}, {{"text": "{long}"}}]}}')

    facts = await extractor.facts(_turn(SENTENCE), [])

    assert facts == ["i like TEA.", "abc", "x" * 2_000]


async def test_without_a_model_the_sentences_of_the_user_are_kept_as_they_are(
    verbatim: Mem0Extractor, simulator: SimulatorAdmin
) -> None:
    facts = await verbatim.facts(_turn(f"Hi!  {SENTENCE}\nWhat is the weather?", "I am no fact."), [])

    assert facts == [f"Hi! {SENTENCE}"]
    assert verbatim.origin is Origin.VERBATIM
    assert await _chat_bodies(simulator) == []


async def test_a_question_alone_is_not_kept(verbatim: Mem0Extractor) -> None:
    assert await verbatim.facts(_turn("What is my code word?"), []) == []


async def test_the_key_goes_to_the_server_of_the_settings_alone(
    settings: MemorySettings, simulator: SimulatorAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mem0 would send everything to OpenRouter if its variable is in the environment."""
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")

    async with open_extractor(settings) as extractor:
        assert await extractor.facts(_turn(SENTENCE), []) == [SENTENCE]

    assert len(await _chat_bodies(simulator)) == 1


def test_mem0_reports_nothing_to_its_makers() -> None:
    assert telemetry.MEM0_TELEMETRY is False
