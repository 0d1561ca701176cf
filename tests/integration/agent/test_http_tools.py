"""Tools on HTTP servers: what models get for each kind of response, and for none."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from langchain_core.tools import ToolException
from mesh_agent.domain.tools import Effect
from mesh_agent.sdk.tool import UnknownOutcomeError
from mesh_agent.settings import HttpToolSettings
from mesh_agent.tools.call import CallIdentity, ToolCall, calling
from mesh_agent.tools.http_tool import http_tool
from mesh_agent.tools.registry import MeshTool, ToolRegistry
from mesh_common.ids import RunId, ThreadId, new_id
from pydantic import TypeAdapter, ValidationError
from support.net import free_port
from support.subjects import some_subject
from support.tool_server import ToolServer, running_tool_server

SETTINGS = TypeAdapter(tuple[HttpToolSettings, ...])
IDENTITY = CallIdentity("run:1:0", some_subject(), RunId(new_id()), ThreadId(new_id()))


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


async def called(setting: str, **arguments: object) -> str:
    [settings] = SETTINGS.validate_json(setting)
    async with aiohttp.ClientSession() as session:
        with calling(IDENTITY):
            return str(await http_tool(settings, session).call(arguments))


async def test_body_of_the_answer_is_the_result(tool: ToolServer) -> None:
    tool.body = "Room 7, \u00e9tage 2"

    assert await called(tool.as_setting("once"), token="a") == "Room 7, \u00e9tage 2"


async def test_answer_that_comes_in_pieces_is_whole(tool: ToolServer) -> None:
    tool.pieces = ("first, ", "second, ", "third")

    assert await called(tool.as_setting("once"), token="a") == "first, second, third"


async def test_answer_that_breaks_off_leaves_the_outcome_unknown(tool: ToolServer) -> None:
    tool.pieces, tool.breaks_off = ("first, ",), True

    with pytest.raises(UnknownOutcomeError):
        await called(tool.as_setting("once"), token="a")


async def test_arguments_of_any_size_and_character_are_sent(tool: ToolServer) -> None:
    await called(tool.as_setting("once"), token="half a pair: \ud83d", big=10**20)

    assert tool.calls[0].arguments["big"] == 10**20


async def test_answer_is_read_to_its_bound_only(tool: ToolServer) -> None:
    tool.body = "x" * 1_000_000

    assert len(await called(tool.as_setting("once"), token="a")) == 32_000


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_refusal_is_told_in_the_servers_words(tool: ToolServer, status: int) -> None:
    tool.status, tool.body = status, "The room is taken."

    with pytest.raises(ToolException, match="The room is taken") as refused:
        await called(tool.as_setting("once"), token="a")

    assert not isinstance(refused.value, UnknownOutcomeError)


async def test_redirection_is_not_followed(tool: ToolServer) -> None:
    tool.status = 302

    with pytest.raises(ToolException, match="redirections are not followed"):
        await called(tool.as_setting("once"), token="a")

    assert len(tool.calls) == 1


@pytest.mark.parametrize("status", [500, 503])
async def test_failure_of_the_server_leaves_the_outcome_unknown(tool: ToolServer, status: int) -> None:
    tool.status = status

    with pytest.raises(UnknownOutcomeError):
        await called(tool.as_setting("once"), token="a")


async def test_silence_leaves_the_outcome_unknown(tool: ToolServer) -> None:
    """Called as runs call it: the plan sets the time limit."""
    tool.answers.clear()
    [settings] = SETTINGS.validate_json(tool.as_setting("once", timeout_s=0.2))
    async with aiohttp.ClientSession() as session:
        mark = MeshTool(http_tool(settings, session), Effect(settings.effect), settings.timeout_s)
        registry = ToolRegistry([mark])
        with calling(IDENTITY):
            result = await registry.call(ToolCall("call-1", "mark", {"token": "a"}), registry.planned)

    assert (result.is_error, result.is_unknown) == (True, True)
    assert len(tool.calls) == 1


async def test_server_that_is_away_did_nothing_for_sure() -> None:
    away = ToolServer(f"http://127.0.0.1:{free_port()}/mark")

    with pytest.raises(ToolException, match="cannot be reached") as refused:
        await called(away.as_setting("once"), token="a")

    assert not isinstance(refused.value, UnknownOutcomeError)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "has space"},
        {"url": "ftp://example.com"},
        {"effect": "twice"},
        {"parameters": {"type": "array"}},
        {"timeout_s": 31},
    ],
)
def test_setting_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    right = ToolServer("http://127.0.0.1:1/mark").as_setting("once")
    entry = TypeAdapter(list[dict[str, object]]).validate_json(right)[0]

    with pytest.raises(ValidationError):
        SETTINGS.validate_python([entry | wrong])
