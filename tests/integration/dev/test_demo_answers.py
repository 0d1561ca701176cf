"""The embedded model gives sensible answers in the demo, with the agent's own prompts and concurrent requests."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from mesh_agent.prompts import default_instructions
from mesh_dev import parts
from mesh_dev.demo import FACT, QUESTION
from support.net import free_port

INSTRUCTIONS = default_instructions()
TIMES = 6


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    model = parts.model_server(tmp_path_factory.mktemp("model"), port)
    await model.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/v1", timeout=120) as client:
        yield client
    await model.stop()


async def answer_of(client: httpx.AsyncClient, message: str, memories: tuple[str, ...]) -> str:
    """The model's answer with the agent's parameters: no temperature, no penalty."""
    messages = [{"role": "system", "content": INSTRUCTIONS.prompt(memories)}, {"role": "user", "content": message}]
    response = await client.post("/chat/completions", json={"messages": messages, "max_completion_tokens": 256})
    return str(response.json()["choices"][0]["message"]["content"]).strip()


async def answers(client: httpx.AsyncClient, message: str, memories: tuple[str, ...] = ()) -> list[str]:
    """Answers to two concurrent requests, like a chat and a judge."""
    return [
        answer
        for _ in range(TIMES // 2)
        for answer in await asyncio.gather(*(answer_of(client, message, memories) for _ in range(2)))
    ]


async def test_first_message_is_answered(client: httpx.AsyncClient) -> None:
    given = await answers(client, FACT)

    assert set(given) == {"The four seasons are: Spring, Summer, Autumn, and Winter."}


async def test_second_thread_answers_from_memory(client: httpx.AsyncClient) -> None:
    given = await answers(client, QUESTION, (FACT,))

    assert set(given) == {"You are allergic to peanuts."}


async def test_second_thread_could_not_know_it_without_memory(client: httpx.AsyncClient) -> None:
    given = await answer_of(client, QUESTION, ())

    assert "peanuts" not in given
