"""The statements of docs/api for client developers hold: its examples survive the faults that the page names."""

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest
from mesh_common.grpc.edges import ServiceName
from mesh_dev.stack import Stack
from support.api import User, new_user
from support.examples import Script, frame, running, streamed

DOCS: Final = Path(__file__).parents[2] / "docs" / "api"
EXAMPLES: Final = DOCS / "examples"
# Five seconds of text: some is sent before the kill, and some after it.
LONG: Final = "[[sim:itl=50]] [[sim:tokens=100]] Tell me."
NODE: Final = shutil.which("node")
NPM: Final = shutil.which("npm")
needs_node = pytest.mark.skipif(None in {NODE, NPM}, reason="no node or no npm: the JavaScript examples are not run")
PYTHON_COMMAND: Final = [sys.executable, "follow.py"]
NODE_COMMAND: Final = [str(NODE), "follow.mjs"]
WATCH_COMMAND: Final = [str(NODE), "--experimental-eventsource", "watch.mjs"]
LANGUAGES: Final = [
    pytest.param(PYTHON_COMMAND, id="python"),
    pytest.param(NODE_COMMAND, id="javascript", marks=needs_node),
]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples and the package that the JavaScript examples need."""
    folder = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(EXAMPLES, folder)
    if NPM:
        subprocess.run([NPM, "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=120)
    return folder


@pytest.fixture
async def client(fragile_stack: Stack) -> AsyncIterator[User]:
    async with new_user(fragile_stack.url) as user:
        yield user


async def _answer(user: User, thread_id: str) -> str:
    """The only answer of the thread, as stored."""
    question, answer = await user.messages(thread_id)
    assert (question["role"], answer["role"], answer["is_partial"]) == ("user", "assistant", False)
    return str(answer["content"])


@pytest.mark.parametrize("command", LANGUAGES)
@pytest.mark.parametrize("victim", ["gateway", "agent"])
async def test_example_survives_the_kill_of(
    fragile_stack: Stack, client: User, examples: Path, command: list[str], victim: ServiceName
) -> None:
    thread_id = await client.new_thread()
    arguments = [fragile_stack.url, client.tokens["access_token"], thread_id, LONG]

    async with running(examples, *command, *arguments) as example:
        await example.has_text.wait()
        await fragile_stack.kill(victim)
        await fragile_stack.start(victim)

    assert example.has_finished
    # The death of a gateway does not start a new attempt.
    *void, text = example.texts
    assert text == await _answer(client, thread_id)
    assert len(void) == (1 if victim == "agent" else 0)
    assert len(await client.items(f"/threads/{thread_id}/runs")) == 1


@pytest.mark.parametrize("command", LANGUAGES)
async def test_example_prints_an_answer_with_odd_characters(
    fragile_stack: Stack, client: User, examples: Path, command: list[str]
) -> None:
    thread_id = await client.new_thread()
    message = "[[sim:reply=Grüße\u2028and\x85more: data: x 🌍]]"

    async with running(
        examples, *command, fragile_stack.url, client.tokens["access_token"], thread_id, message
    ) as example:
        pass

    assert example.has_finished
    assert example.texts == [await _answer(client, thread_id)]


def _in_python(base_url: str, user: User, thread_id: str) -> list[str]:
    code = f"""
import follow, httpx
get_token = lambda refresh: {user.tokens["access_token"]!r} if refresh else "expired"
for event in follow.follow(httpx.Client(base_url={base_url!r}), get_token, {thread_id!r}, "Hello"):
    print(event.get("text", "") if event["type"] == "message_delta" else "", end="")
"""
    return [sys.executable, "-c", code]


def _in_node(base_url: str, user: User, thread_id: str) -> list[str]:
    code = f"""
import {{ follow }} from "./follow.mjs";
const getToken = async (refresh) => (refresh ? "{user.tokens["access_token"]}" : "expired");
for await (const {{ type, text }} of follow("{base_url}", getToken, "{thread_id}", "Hello"))
  if (type === "message_delta") process.stdout.write(text);
"""
    return [str(NODE), "--input-type=module", "-e", code]


@pytest.mark.parametrize(
    "argv_of", [pytest.param(_in_python, id="python"), pytest.param(_in_node, id="javascript", marks=needs_node)]
)
async def test_example_asks_for_a_new_token_when_its_own_is_refused(
    fragile_stack: Stack, client: User, examples: Path, argv_of: Callable[[str, User, str], list[str]]
) -> None:
    thread_id = await client.new_thread()

    async with running(examples, *argv_of(fragile_stack.url, client, thread_id)) as example:
        pass

    assert example.printed == await _answer(client, thread_id)


@pytest.mark.parametrize("command", LANGUAGES)
async def test_example_stops_when_a_new_token_is_refused_too(
    fragile_stack: Stack, client: User, examples: Path, command: list[str]
) -> None:
    thread_id = await client.new_thread()

    with pytest.raises(AssertionError, match="401"):
        async with running(examples, *command, fragile_stack.url, "none", thread_id, "Hello"):
            pass


@pytest.mark.parametrize("command", LANGUAGES)
async def test_example_comes_back_after_a_refusal_and_half_aframe(examples: Path, command: list[str]) -> None:
    refused = "503 Busy\r\nConnection: close\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}"
    script = Script(
        [
            refused,
            streamed(": hello\n\n", frame(1, "run_started"), ": ping\n\n", frame(2, "void").removesuffix("\n")),
            refused,
            streamed("retry: 300\n\n", frame(2, "run_finished"), frame(3, "never")),
        ]
    )

    async with script.served() as url, running(examples, *command, url, "token", "thread", "Hello") as example:
        pass

    assert example.printed == "\n[run_started]\n\n[run_finished]\n"
    came_from = [re.findall(r"last-event-id: (\S+)", request) for request in script.asked]
    assert came_from == [[], [], ["r:1:1"], ["r:1:1"]]
    assert len({re.findall(r"idempotency-key: \S+", request)[0] for request in script.asked}) == 1


@pytest.mark.parametrize("command", LANGUAGES)
async def test_example_ends_when_no_event_comes_any_more(examples: Path, command: list[str]) -> None:
    script = Script([streamed(frame(1, "run_started")), "204 No Content\r\n\r\n"])

    async with script.served() as url, running(examples, *command, url, "token", "thread", "Hello") as example:
        pass

    assert example.printed == "\n[run_started]\n"


@needs_node
async def test_javascript_example_leaves_a_silent_stream_and_comes_back(examples: Path) -> None:
    """The first response sends one event and then nothing, like a half-open connection; the second sends the rest."""
    script = Script([streamed(frame(1, "run_started")), streamed(frame(2, "run_finished"))], closes=False)

    async with script.served() as url:
        code = f"""
import {{ follow }} from "./follow.mjs";
for await (const {{ type }} of follow("{url}", () => "t", "x", "Hello", 200)) console.log(type);
"""
        async with running(examples, str(NODE), "--input-type=module", "-e", code) as example:
            pass

    assert example.printed == "run_started\nrun_finished\n"
    assert "last-event-id: r:1:1" in script.asked[1]


@needs_node
async def test_event_source_example_tells_when_it_gives_up(fragile_stack: Stack, client: User, examples: Path) -> None:
    arguments = [fragile_stack.url, client.tokens["access_token"], "0199f0c4-4444-7c3a-8f11-3a4b5c6d7e8f"]

    with pytest.raises(AssertionError, match="404"):
        async with running(examples, *WATCH_COMMAND, *arguments):
            pass


@needs_node
async def test_event_source_example_survives_the_kill_of_the_gateway(
    fragile_stack: Stack, client: User, examples: Path
) -> None:
    if not await _has_event_source():
        pytest.skip("this node has no EventSource: the example is not run")
    thread_id = await client.new_thread()
    started = await client.post(f"/threads/{thread_id}/runs", {"message": LONG})
    arguments = [fragile_stack.url, client.tokens["access_token"], started.json()["run_id"]]

    async with running(examples, *WATCH_COMMAND, *arguments) as example:
        await example.has_text.wait()
        await fragile_stack.kill("gateway")
        await fragile_stack.start("gateway")

    assert example.has_finished
    assert example.texts == [await _answer(client, thread_id)]


@pytest.mark.parametrize("path", sorted(DOCS.glob("**/*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())

    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


async def test_every_address_in_the_docs_is_a_route(client: User) -> None:
    paths = (await client.http.get("/openapi.json")).json()["paths"]
    routes = {(method.upper(), re.sub(r"\{\w+\}", "{}", path)) for path, methods in paths.items() for method in methods}
    text = "".join(path.read_text() for path in DOCS.glob("**/*.md"))

    documented = {
        (method, re.sub(r"\{\w+\}", "{}", path))
        for method, path in re.findall(r"`(GET|POST|PATCH|DELETE) (/api/v1/[^`?]*)", text)
    }

    assert len(documented) > 6
    assert documented - routes == set()


async def _has_event_source() -> bool:
    argv = [str(NODE), "--experimental-eventsource", "-e", "process.exit(typeof EventSource === 'function' ? 0 : 1)"]
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0
