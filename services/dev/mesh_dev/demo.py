"""`make demo`: shows one conversation through the whole mesh step by step, and names a step that fails."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from mesh_common.grpc.edges import SERVICES
from mesh_common.ids import new_id

from mesh_dev.console import Stopwatch, say
from mesh_dev.errors import DevError
from mesh_dev.mesh_client import Event, MeshClient
from mesh_dev.models import model_source_of
from mesh_dev.settings import DevSettings
from mesh_dev.stack import Stack, StackOptions
from mesh_dev.trace_source import describe_trace, describe_trace_without_statements, find_trace, is_whole
from mesh_dev.trace_tree import Span, services_of
from mesh_dev.wait import LOOPBACK, Waiter

PASSWORD: Final = "violet harbour lantern 27"  # noqa: S105 - of a user on this machine only
# Chosen from some forty wordings, because the embedded model answers these sensibly (test_demo_answers.py).
# Without QUESTION's second sentence, the model answers in the user's voice: "I'm allergic to peanuts."
FACT: Final = "My name is Ada and I am allergic to peanuts. Name the four seasons."
QUESTION: Final = "What am I allergic to? Start your answer with: You are allergic to"
# The embedded model judges five metrics at some 70 tokens/s, each up to three times.
SCORES_WITHIN_S: Final = 240.0
MEMORIES_WITHIN_S: Final = 60.0
# Spans are exported once per second; the span of the run ends last.
TRACE_WITHIN_S: Final = 20.0
DYING_S: Final = 5.0
POLL_INTERVAL_S: Final = 0.5
PROGRESS_INTERVAL_S: Final = 5.0
MAX_REASONING_CHARS: Final = 80
ORIGINS: Final = {
    "extracted": "extracted by a model",
    "verbatim": "the user's own sentence: no model for extracting facts is configured",
    "written": "written by the user",
}


async def run_demo(settings: DevSettings) -> None:
    """Starts a stack, shows the conversation, stops the stack.

    Raises:
        DevError: the stack or a step of the demo failed.
    """
    watch = Stopwatch()
    async with Stack(StackOptions(settings=settings, models=model_source_of(settings))) as stack:
        say(f"the stack is ready after {watch.elapsed_s:.1f} s: {stack.url}")
        await _unless_a_part_dies(stack, _show(stack))
    say(f"\nall processes are stopped; the demo took {watch.elapsed_s:.1f} s\n")
    say(_what_next(settings))


def _what_next(settings: DevSettings) -> str:
    command = "make dev" if settings.openai_api_key else "OPENAI_API_KEY=… make dev"
    steps = {
        command: "keeps the stack running, with a model that answers and judges well",
        f"http://{LOOPBACK}:{settings.port_base}/openapi.json": "describes the HTTP API while the stack runs",
        "docs/api/README.md": "how a client starts, follows and repeats runs, with examples",
        "docs/operations/README.md": "how to install the mesh on Kubernetes",
    }
    width = max(map(len, steps))
    return "\n".join(("What next:", *(f"   {place:<{width}}  {what}" for place, what in steps.items())))


async def _unless_a_part_dies(stack: Stack, story: Coroutine[None, None, None]) -> None:
    async def run_story() -> None:
        try:
            await story
        except DevError:
            # If a part has just died, that is the better error; its exit may take a moment.
            await asyncio.wait({watcher}, timeout=DYING_S)
            raise
        watcher.cancel()

    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(stack.watch())
        group.create_task(run_story())


async def _show(stack: Stack) -> None:
    async with MeshClient(stack.url) as client:
        if purpose := stack.environments.models.purpose:
            say(f"\n{purpose}")
        demo = Demo(stack, client)
        await demo.make_user()
        first_run_id = await demo.tell_fact()
        await demo.wait_for_memory()
        await demo.ask_in_second_thread()
        await demo.show_scores(first_run_id)
        await demo.show_trace(first_run_id)
        await demo.show_metrics()


class Demo:
    """The steps of the demo. Each raises DevError if it fails."""

    def __init__(self, stack: Stack, client: MeshClient) -> None:
        self._stack = stack
        self._client = client

    async def make_user(self) -> None:
        email = f"ada-{new_id().hex[-12:]}@example.com"
        _require(await self._client.register(email, PASSWORD), "register a user")
        _require(await self._client.login(email, PASSWORD), "log in")
        say(f"\n── user {email} registered and logged in")

    async def tell_fact(self) -> str:
        """Sends the fact in a new thread; returns the run's id."""
        say("\n── first thread")
        answer = await self._chat(FACT)
        return answer.run_id

    async def wait_for_memory(self) -> None:
        say("\n── what memory stored of it")

        async def memories() -> list[dict[str, Any]]:
            return await self._items("/memories", "list memories")

        for memory in await _poll("memory to store the turn", memories, within_s=MEMORIES_WITHIN_S):
            say(f"   {memory['text']}  ({ORIGINS[memory['origin']]})")

    async def ask_in_second_thread(self) -> None:
        say("\n── second thread")
        answer = await self._chat(QUESTION)
        if not answer.recalled:
            raise DevError("the second thread recalled nothing from the first")
        for memory in answer.recalled:
            say(f"   recalled: {memory['text']}  (similarity {memory['similarity']:.2f})")

    async def show_scores(self, run_id: str) -> None:
        say(f"\n── the judge's scores of the first run ({run_id})")

        async def scores() -> list[dict[str, Any]]:
            response = _require(await self._client.get(f"/runs/{run_id}/scores"), "list scores")
            judged = response.json()
            return [] if judged["is_pending"] else list(judged["items"])

        judged = await _poll("the judge", scores, within_s=SCORES_WITHIN_S)
        can_judge = self._stack.environments.models.can_judge
        for score in judged:
            value = _value(score, is_shown=can_judge)
            say(f"   {score['name']:<14}{value:>6}   {_one_line(score['reasoning'])}".rstrip())
        if not can_judge:
            say("   (values are hidden, because this model is too small to judge; a better model's values are shown)")
        if all(score["value"] is None for score in judged):
            raise DevError("the judge gave no valid score")

    async def show_trace(self, run_id: str) -> None:
        say("\n── the trace of the first run")

        async def whole() -> list[Span]:
            spans = await find_trace(self._stack.traces_url, run_id)
            return spans if is_whole(spans) and set(SERVICES) <= set(services_of(spans)) else []

        try:
            spans = await _poll("the trace to be complete", whole, within_s=TRACE_WITHIN_S)
        except DevError as error:
            raise DevError(await self._what_the_trace_lacks(run_id)) from error
        say(describe_trace_without_statements(spans))

    async def show_metrics(self) -> None:
        say("\n── metrics")
        async with httpx.AsyncClient(trust_env=False) as http:
            for service, url in self._stack.metrics_urls.items():
                response = _require(await http.get(url), f"read the metrics of {service}")
                ours = {line.split(" ")[2] for line in response.text.splitlines() if line.startswith("# TYPE mesh_")}
                if not ours:
                    raise DevError(f"{url} has no metric of the mesh")
                say(f"   {url}  {service}, {len(ours)} metrics of its own")

    async def _chat(self, message: str) -> "Answer":
        say(f"   you: {message}\n   mesh: ", end="")
        answer = Answer()
        async with self._client.open_stream("/chatbot/chat/stream", {"message": message}) as (response, events):
            if not response.is_success:
                await response.aread()
            _require(response, "start a run")
            async for event in events:
                answer.take(event)
        say()
        if answer.fault or not answer.text:
            raise DevError(f"the run did not end with an answer: {answer.fault or 'its text is empty'}")
        return answer

    async def _items(self, path: str, deed: str) -> list[dict[str, Any]]:
        response = _require(await self._client.get(path), deed)
        return list(response.json()["items"])

    async def _what_the_trace_lacks(self, run_id: str) -> str:
        spans = await find_trace(self._stack.traces_url, run_id)
        if not spans:
            return "no trace of the first run has arrived"
        say(describe_trace(spans))
        missing = [service for service in SERVICES if service not in services_of(spans)]
        return f"the trace lacks {', '.join(missing)}" if missing else "the trace has more than one root"


@dataclass(slots=True)
class Answer:
    """The answer that a stream has carried so far."""

    run_id: str = ""
    text: str = ""
    recalled: list[dict[str, Any]] = field(default_factory=list)
    fault: str = "its stream was interrupted"
    """Empty once the run has succeeded."""

    def take(self, event: Event) -> None:
        self.run_id = event.run_id
        match event.type:
            case "memory_recalled":
                self.recalled = list(event.fields["memories"])
            case "message_delta":
                self.text += event.fields["text"]
                say(event.fields["text"], end="")
            case "run_finished":
                self.fault = ""
            case "run_failed":
                self.fault = f"{event.fields['reason']}: {event.fields['detail']}"
            case "run_cancelled":
                self.fault = "it was cancelled"
            case "run_interrupted":
                self.fault = "it waits for a decision"


async def _poll[T](what: str, fetch: Callable[[], Awaitable[list[T]]], *, within_s: float) -> list[T]:
    """Polls `fetch` until its result is not empty, and returns it."""
    found: list[T] = []

    async def probe() -> bool:
        found[:] = await fetch()
        return bool(found)

    waiter = Waiter(
        say=lambda line: say(f"   {line}"),
        deadline_s=within_s,
        probe_interval_s=POLL_INTERVAL_S,
        progress_interval_s=PROGRESS_INTERVAL_S,
    )
    await waiter.ready(what, probe)
    return found


def _require(response: httpx.Response, deed: str) -> httpx.Response:
    if not response.is_success:
        raise DevError(f"could not {deed}: {response.status_code} {response.text.strip()}")
    return response


def _value(score: dict[str, Any], *, is_shown: bool) -> str:
    if score["value"] is None:
        return "failed"
    return f"{score['value']:.2f}" if is_shown else "judged"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_REASONING_CHARS else line[: MAX_REASONING_CHARS - 1] + "…"
