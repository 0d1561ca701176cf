"""Many concurrent users, 200 in `make nightly`: nothing is lost or mixed up."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from mesh_common.grpc.edges import ServiceName
from mesh_common.ids import new_id
from mesh_dev.stack import Stack
from support.api import Turn, User, eventually, new_user
from support.stack import open_stack

FEW = 20
MANY = 200
TURNS = 5
# Argon2 takes 2 x 20 ms of a core for each user: more concurrent registrations would only queue.
REGISTERING_AT_ONCE = 16
# The shared stack waits no longer for a password hash than production does.
FEW_REGISTERING_AT_ONCE = 2
PATIENT: Mapping[ServiceName, Mapping[str, str]] = {
    "gateway": {
        "GATEWAY_CALL_TIMEOUT_S": "60",
        "GATEWAY_LOGIN_TIMEOUT_S": "60",
        "GATEWAY_START_TIMEOUT_S": "60",
    },
    "auth": {"AUTH_DATABASE_TIMEOUT_S": "60", "AUTH_HASH_WAIT_S": "60"},
    "agent": {
        "AGENT_DATABASE_TIMEOUT_S": "60",
        "AGENT_EVAL_SAMPLE_RATIO": "0.1",
        "AGENT_LEASE_TTL_S": "60",
        "AGENT_MODEL_READ_TIMEOUT_S": "30",
    },
    "memory": {"MEMORY_DATABASE_TIMEOUT_S": "60"},
    "eval": {"EVAL_DATABASE_TIMEOUT_S": "60"},
}


@dataclass(frozen=True)
class Story:
    """One user's messages, answers and memories. No other user's contain `marker`."""

    marker: str
    turns: list[Turn]
    messages: list[str]
    memories: list[str]


@pytest.fixture
async def busy_stack(tmp_path: Path, mesh_template: Path) -> AsyncIterator[Stack]:
    """A stack without traces and with long timeouts: 200 users on two cores delay each other, which is no error."""
    async with open_stack(tmp_path, mesh_template, service_env=PATIENT) as running:
        yield running


async def test_nothing_of_a_few_users_is_lost_or_mixed_up(stack: Stack) -> None:
    await nothing_is_lost_or_mixed_up(stack, FEW, FEW_REGISTERING_AT_ONCE)


@pytest.mark.nightly
@pytest.mark.timeout(240)
async def test_nothing_of_many_users_is_lost_or_mixed_up(busy_stack: Stack) -> None:
    await nothing_is_lost_or_mixed_up(busy_stack, MANY, REGISTERING_AT_ONCE)


async def nothing_is_lost_or_mixed_up(stack: Stack, users: int, registering_at_once: int) -> None:
    registering = asyncio.Semaphore(registering_at_once)

    stories = await asyncio.gather(*(tell_story(stack, registering) for _ in range(users)))

    ends = Counter(turn.last.type for story in stories for turn in story.turns)
    assert ends == {"run_finished": users * TURNS}
    for story in stories:
        require_own_story(story)
    require_no_foreign_markers(stories)


async def tell_story(stack: Stack, registering: asyncio.Semaphore) -> Story:
    marker = new_id().hex
    async with registering:
        opened = new_user(stack.url)
        user = await opened.__aenter__()
    try:
        turns = [await user.chat(f"My word is {marker}. [[sim:echo]]")]
        for number in range(1, TURNS):
            message = f"[[sim:echo]] What is the word {marker} number {number}?"
            turns.append(await user.chat(message, thread_id=turns[0].thread_id))
        contents = [message["content"] for message in await user.messages(turns[0].thread_id)]
        memories = await remembered(user)
    finally:
        await opened.__aexit__(None, None, None)
    return Story(marker, turns, contents, memories)


async def remembered(user: User) -> list[str]:
    return await eventually("the memory", user.memories, lambda found: len(found) > 0, 90)


def require_own_story(story: Story) -> None:
    for turn in story.turns:
        assert [event.seq for event in turn.events] == list(range(1, len(turn.events) + 1))
        assert story.marker in turn.text
    assert len(story.messages) == 2 * TURNS
    assert story.messages[1::2] == [turn.text for turn in story.turns]
    assert story.memories == [f"My word is {story.marker}."]


def require_no_foreign_markers(stories: list[Story]) -> None:
    markers = {story.marker for story in stories}
    for story in stories:
        answered = " ".join([*(turn.text for turn in story.turns), *story.messages, *story.memories])
        recalled = " ".join(memory for turn in story.turns for memory in turn.memories)
        assert {marker for marker in markers if marker in answered or marker in recalled} == {story.marker}
