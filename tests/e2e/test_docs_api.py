"""What docs/api tells client developers is true: its examples survive what the page says they survive."""

import asyncio
import re
import runpy
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from mesh_common.edges import ServiceName
from mesh_dev.stack import Stack
from support.api import User, new_user
from support.stack import open_stack

DOCS: Final = Path(__file__).parents[2] / "docs" / "api"
EXAMPLES: Final = DOCS / "examples"
# Five seconds of text: some is out before the kill, and some comes after it.
LONG: Final = "[[sim:itl=50]] [[sim:tokens=100]] Tell me."
FINISHED: Final = "\n[run_finished]\n"
AGAIN: Final = "\n[run_restarted]\n"
EXAMPLE_ENDS_WITHIN_S: Final = 60.0
NODE: Final = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: the JavaScript examples are not run")


def _python(base_url: str, user: User, thread_id: str, message: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / "follow.py"), base_url, user.tokens["access_token"], thread_id, message]


def _node(base_url: str, user: User, thread_id: str, message: str) -> list[str]:
    return [str(NODE), str(EXAMPLES / "follow.mjs"), base_url, user.tokens["access_token"], thread_id, message]


type ArgvOf = Callable[[str, User, str, str], list[str]]

LANGUAGES: Final = [pytest.param(_python, id="python"), pytest.param(_node, id="javascript", marks=needs_node)]


@pytest.fixture(scope="module")
async def fragile_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack of this file's own: its tests kill parts of it and start them again."""
    async with open_stack(tmp_path_factory.mktemp("docs-api")) as running:
        yield running


@pytest.fixture
async def client(fragile_stack: Stack) -> AsyncIterator[User]:
    async with new_user(fragile_stack.url) as user:
        yield user


@dataclass
class Example:
    """A running example and what it has printed so far."""

    process: asyncio.subprocess.Process
    printed: str = ""
    has_printed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        assert self.process.stdout
        while chunk := await self.process.stdout.read(4_096):
            self.printed += chunk.decode()
            self.has_printed.set()


@asynccontextmanager
async def running(argv: list[str]) -> AsyncIterator[Example]:
    """The block ends when the example has; its errors are the test's."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    example = Example(process)
    try:
        async with asyncio.timeout(EXAMPLE_ENDS_WITHIN_S), asyncio.TaskGroup() as group:
            group.create_task(example.read())
            yield example
            await process.wait()
        assert process.stderr
        errors = (await process.stderr.read()).decode()
        # Node announces an experimental API there.
        assert process.returncode == 0, errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answer(user: User, thread_id: str) -> str:
    """The one answer of the thread, as it is stored."""
    question, answer = await user.messages(thread_id)
    assert (question["role"], answer["role"], answer["is_partial"]) == ("user", "assistant", False)
    return str(answer["content"])


@pytest.mark.parametrize("argv_of", LANGUAGES)
@pytest.mark.parametrize("victim", ["gateway", "agent"])
async def test_example_survives_the_kill_of(
    fragile_stack: Stack, client: User, argv_of: ArgvOf, victim: ServiceName
) -> None:
    thread_id = await client.new_thread()

    async with running(argv_of(fragile_stack.url, client, thread_id, LONG)) as example:
        await example.has_printed.wait()
        await fragile_stack.kill(victim)
        await fragile_stack.start(victim)

    assert example.printed.endswith(FINISHED)
    # What stood before a new beginning is void; a gateway's death needs none.
    *void, text = example.printed.removesuffix(FINISHED).split(AGAIN)
    assert text == await _answer(client, thread_id)
    assert len(void) == (1 if victim == "agent" else 0)
    assert len(await client.items(f"/threads/{thread_id}/runs")) == 1


@pytest.mark.parametrize("argv_of", LANGUAGES)
async def test_example_prints_an_answer_with_odd_characters(
    fragile_stack: Stack, client: User, argv_of: ArgvOf
) -> None:
    thread_id = await client.new_thread()

    async with running(
        argv_of(fragile_stack.url, client, thread_id, "[[sim:reply=Grüße\u2028and\x85more: data: x 🌍]]")
    ) as example:
        pass

    assert example.printed == (await _answer(client, thread_id)) + FINISHED


def _in_python(base_url: str, user: User, thread_id: str) -> list[str]:
    code = f"""
import sys; sys.path.insert(0, {str(EXAMPLES)!r})
import follow, httpx
get_token = lambda refresh: {user.tokens["access_token"]!r} if refresh else "expired"
for event in follow.follow(httpx.Client(base_url={base_url!r}), get_token, {thread_id!r}, "Hello"):
    print(event.get("text", "") if event["type"] == "message_delta" else "", end="")
"""
    return [sys.executable, "-c", code]


def _in_node(base_url: str, user: User, thread_id: str) -> list[str]:
    code = f"""
import {{ follow }} from "{(EXAMPLES / "follow.mjs").as_uri()}";
const getToken = async (refresh) => (refresh ? "{user.tokens["access_token"]}" : "expired");
for await (const {{ type, text }} of follow("{base_url}", getToken, "{thread_id}", "Hello"))
  if (type === "message_delta") process.stdout.write(text);
"""
    return [str(NODE), "--input-type=module", "-e", code]


@pytest.mark.parametrize(
    "argv_of", [pytest.param(_in_python, id="python"), pytest.param(_in_node, id="javascript", marks=needs_node)]
)
async def test_example_asks_for_a_new_token_when_its_own_is_refused(
    fragile_stack: Stack, client: User, argv_of: Callable[[str, User, str], list[str]]
) -> None:
    thread_id = await client.new_thread()

    async with running(argv_of(fragile_stack.url, client, thread_id)) as example:
        pass

    assert example.printed == await _answer(client, thread_id)


@pytest.mark.parametrize("argv_of", LANGUAGES)
async def test_example_stops_when_a_new_token_is_refused_too(
    fragile_stack: Stack, client: User, argv_of: ArgvOf
) -> None:
    thread_id = await client.new_thread()
    stranger = User(fragile_stack.url, "nobody@example.com")
    stranger.tokens = {"access_token": "none"}

    with pytest.raises(AssertionError, match="401"):
        async with stranger, running(argv_of(fragile_stack.url, stranger, thread_id, "Hello")):
            pass


def test_python_parser_passes_over_comments_and_keeps_odd_characters() -> None:
    frame = 'id: r:1:2\nevent: message_delta\ndata: {"type":"message_delta","text":"a: b\u2028c\x85d"}\n\n'
    stream = f":\n\n: ping\n\n:no space\n{frame}data:{{}}\nid:r:1:3\n\n: it stops\nretry: 300\n"

    found = list(_python_example()["events"](stream))

    assert found == [("r:1:2", {"type": "message_delta", "text": "a: b\u2028c\x85d"}), ("r:1:3", {})]


@needs_node
async def test_javascript_example_leaves_a_silent_stream_and_comes_back() -> None:
    """The first answer says one thing and then nothing, as a connection that is half open; the second has the rest."""
    answers = ['id: r:1:1\ndata: {"type":"run_started"}\n\n', 'id: r:1:2\ndata: {"type":"run_finished"}\n\n']
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(f"HTTP/1.1 200 OK\r\n\r\n{answers[len(asked) - 1]}".encode())
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        code = f"""
import {{ follow }} from "{(EXAMPLES / "follow.mjs").as_uri()}";
for await (const {{ type }} of follow("http://127.0.0.1:{port}", () => "t", "x", "Hello", 200)) console.log(type);
"""
        async with running([str(NODE), "--input-type=module", "-e", code]) as example:
            pass

    assert example.printed == "run_started\nrun_finished\n"
    assert "last-event-id: r:1:1" in asked[1]


@needs_node
async def test_event_source_example_tells_when_it_gives_up(fragile_stack: Stack, client: User) -> None:
    argv = [str(NODE), "--experimental-eventsource", str(EXAMPLES / "watch.mjs"), fragile_stack.url]

    with pytest.raises(AssertionError, match="404"):
        async with running([*argv, client.tokens["access_token"], "0199f0c4-4444-7c3a-8f11-3a4b5c6d7e8f"]):
            pass


@needs_node
async def test_event_source_example_survives_the_kill_of_the_gateway(fragile_stack: Stack, client: User) -> None:
    if not await _has_event_source():
        pytest.skip("this node has no EventSource: the example is not run")
    thread_id = await client.new_thread()
    started = await client.post(f"/threads/{thread_id}/runs", {"message": LONG})
    arguments = [fragile_stack.url, client.tokens["access_token"], started.json()["run_id"]]

    async with running([str(NODE), "--experimental-eventsource", str(EXAMPLES / "watch.mjs"), *arguments]) as example:
        await example.has_printed.wait()
        await fragile_stack.kill("gateway")
        await fragile_stack.start("gateway")

    assert example.printed == (await _answer(client, thread_id)) + FINISHED


@pytest.mark.parametrize("path", sorted(DOCS.glob("**/*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())

    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


async def test_every_address_in_the_docs_is_a_route(client: User) -> None:
    paths = (await client.http.get("/openapi.json")).json()["paths"]
    routes = {(method.upper(), re.sub(r"\{\w+\}", "{}", path)) for path, methods in paths.items() for method in methods}
    text = "".join(path.read_text() for path in DOCS.glob("**/*.md"))

    told = {
        (method, re.sub(r"\{\w+\}", "{}", path))
        for method, path in re.findall(r"`(GET|POST|PATCH|DELETE) (/api/v1/[^`?]*)", text)
    }

    assert len(told) > 6
    assert told - routes == set()


def _python_example() -> dict[str, Any]:
    """Its names; nothing of it is run."""
    return runpy.run_path(str(EXAMPLES / "follow.py"))


async def _has_event_source() -> bool:
    argv = [str(NODE), "--experimental-eventsource", "-e", "process.exit(typeof EventSource === 'function' ? 0 : 1)"]
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0
