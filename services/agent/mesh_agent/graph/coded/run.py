"""What the mesh lends the nodes of a graph in code: the implementation of `mesh_agent.sdk.Run`."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, cast

import orjson
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage
from langgraph.types import interrupt
from mesh_common.errors import PreconditionFailed

from mesh_agent.checkpoint import RunCheckpoints
from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.interrupts import DecidedCall, DecisionKind, InterruptKind, Question
from mesh_agent.graph.approval import as_model_reads, review
from mesh_agent.graph.call_order import CallOrder
from mesh_agent.graph.coded.recording import Place, Places, Recording
from mesh_agent.graph.nodes import RUN, tool_calls
from mesh_agent.graph.rounds import CodedListener, LoopInput, RoundListener, Rounds
from mesh_agent.graph.tool_calls import call_at_safe_point
from mesh_agent.graph.window import history_messages
from mesh_agent.llm.completion import AnswerFullError
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.plans.plan import PlannedTool
from mesh_agent.sdk.graph import Rejection, Run
from mesh_agent.tools.call import ToolCall, from_json, to_json
from mesh_agent.tools.registry import ToolRegistry
from mesh_agent.tools.schema import schema_fault

SAID: Final = "mesh_said"
"""In a message's `response_metadata`: its text is part of the run's answer."""
_NAME: Final = re.compile(r"[a-z0-9_.-]{1,64}", re.ASCII)
_MAX_DATA_BYTES: Final = 65_536
_MAX_QUESTION_CHARS: Final = 4_000
_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_ID_CHARS: Final = 16


class CodedRun(Run[Any]):
    """One attempt of a run of a graph in code."""

    def __init__(
        self,
        attempt: LoopInput,
        rounds: Rounds,
        registry: ToolRegistry,
        checkpoints: RunCheckpoints,
        recording: Recording,
        listener: CodedListener,
        config: Any,
    ) -> None:
        claim = checkpoints.claim
        self.message, self.config = attempt.message, config
        self.run_id, self.thread_id = claim.run_id, claim.thread_id
        self.organisation_id, self.user_id = claim.subject.organisation_id, claim.subject.user_id
        self.tools = tuple(tool.name for tool in attempt.plan.tools)
        self._attempt = attempt
        self._claim: Claim = claim
        self._rounds = rounds
        self._registry = registry
        self._checkpoints = checkpoints
        self._recording = recording
        self._listener = listener
        self._places = Places()
        self._order = CallOrder()
        # Two texts at once would be mixed.
        self._speaking = asyncio.Lock()
        self._recalled: asyncio.Future[list[str]] | None = None

    async def history(self) -> list[BaseMessage]:
        return history_messages(await self._attempt.recent_messages(), self._attempt.plan.history_tokens)

    async def recall(self) -> list[str]:
        if self._recalled is None:
            self._recalled = asyncio.ensure_future(self._recall())
        return list(await asyncio.shield(self._recalled))

    async def _recall(self) -> list[str]:
        return [memory.text for memory in await self._attempt.recall()]

    async def ask(
        self, messages: Sequence[BaseMessage], *, tools: Sequence[str] = (), to_user: bool = False
    ) -> AIMessage:
        place = self._places.next()
        if known := self._recording.get(place):
            return cast("AIMessage", known)
        if not messages:
            raise ValueError("a model must be asked something")
        planned = [self._tool(name) for name in tools]
        self._rounds.count()
        if not to_user:
            return await self._answered(place, list(messages), planned, self._listener.aside())
        async with self._speaking:
            return await self._answered(place, list(messages), planned, self._listener, {SAID: True})

    async def _answered(
        self,
        place: Place,
        messages: list[BaseMessage],
        planned: Sequence[PlannedTool],
        listener: RoundListener,
        metadata: Mapping[str, Any] | None = None,
    ) -> AIMessage:
        try:
            answer = await self._rounds.ask(listener, messages, planned, _system_prompt(messages))
        except ProviderError:
            listener.fail_round()
            raise
        answer.response_metadata.update(metadata or {})
        await self._recording.add(place, answer)
        return answer

    async def say(self, text: str) -> None:
        place = self._places.next()
        if not text or self._recording.get(place):
            return
        async with self._speaking:
            try:
                self._listener.say(str(text))
            except AnswerFullError as error:
                raise PreconditionFailed("The answer is too long.", reason="ANSWER_TOO_LONG") from error
            await self._recording.add(place, AIMessage(text, response_metadata={RUN: str(self.run_id), SAID: True}))

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolMessage:
        place = self._places.next()
        [message] = await self._called([(place, ToolCall(_call_id(place), tool, _plain(arguments)))])
        return message

    async def call_tools(self, answer: AIMessage) -> list[ToolMessage]:
        return await self._called([(self._places.next(), call) for call in tool_calls(answer)])

    async def _called(self, calls: Sequence[tuple[Place, ToolCall]]) -> list[ToolMessage]:
        """Asks a person about all of the calls together, before any of them is made."""
        reviewed = [(place, review(self._registry, self._attempt.plan.tools, call, place.key)) for place, call in calls]
        missing = [
            one.question
            for place, one in reviewed
            if one.question and not self._decision(one.question) and not self._recording.get(place)
        ]
        _ask_person(missing)
        try:
            async with asyncio.TaskGroup() as group:
                made = [
                    group.create_task(
                        self._made(place, one.call, self._decision(one.question), is_parallel=one.is_parallel)
                    )
                    for place, one in reviewed
                ]
        except ExceptionGroup as errors:
            # Tools raise nothing. The lease is lost, or the database is unavailable, for all of them alike.
            raise errors.exceptions[0] from None
        return [task.result() for task in made]

    async def _made(
        self, place: Place, call: ToolCall, decided: DecidedCall | None, *, is_parallel: bool
    ) -> ToolMessage:
        if known := self._recording.get(place):
            return cast("ToolMessage", known)
        async with self._order.entering(is_parallel=is_parallel):
            result = await call_at_safe_point(
                self._registry, self._attempt.plan.tools, self._checkpoints, self._listener, call, place.key, decided
            )
        message = ToolMessage(
            as_model_reads(result.content, decided),
            tool_call_id=result.call_id,
            name=result.tool,
            status="error" if result.is_error else "success",
            response_metadata={"is_unknown": result.is_unknown, RUN: str(self.run_id)},
        )
        await self._recording.add(place, message)
        return message

    async def ask_person(self, question: str, schema: Mapping[str, Any] | None = None) -> Any:
        place = self._places.next()
        schema = _TEXT if schema is None else schema
        if fault := schema_fault(schema):
            raise ValueError(f"the schema of an answer is not valid: {fault}")
        if not 0 < len(question) <= _MAX_QUESTION_CHARS:
            raise ValueError(f"a question has 1 to {_MAX_QUESTION_CHARS} characters")
        asked = Question(place.key, InterruptKind.QUESTION, _call_id(place), "", "{}", str(question), to_json(schema))
        decided = self._decision(asked)
        if decided is None:
            _ask_person([asked])
            raise AssertionError("an interrupt ends the node")
        return answer_of(decided)

    def emit(self, name: str, data: Mapping[str, Any]) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError("the name of an event has 1 to 64 lower-case letters, digits, `_`, `-` and `.`")
        try:
            data_json = orjson.dumps(dict(data))
        except TypeError as error:
            raise ValueError(f"the data of the event {name} are not JSON") from error
        if len(data_json) > _MAX_DATA_BYTES:
            raise ValueError(f"the data of the event {name} are longer than {_MAX_DATA_BYTES} bytes")
        self._listener.custom(name, data_json.decode())

    def _decision(self, question: Question | None) -> DecidedCall | None:
        decided = self._attempt.decided.get(question.call_key) if question else None
        return decided if decided and question and decided.is_about(question) else None

    def _tool(self, name: str) -> PlannedTool:
        found = next((tool for tool in self._attempt.plan.tools if tool.name == name), None)
        if found is None:
            raise ValueError(f"the run has no tool {name!r}")
        return found


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Without subclasses, which validators refuse: LangChain's `text` of a message is one of str."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(arguments), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("the arguments of a call must be JSON") from error
    return plain


def answer_of(decided: DecidedCall) -> Any:
    if decided.decision.kind is DecisionKind.ANSWER:
        return from_json(decided.decision.value_json)
    return Rejection(decided.decision.message)


def _ask_person(questions: Sequence[Question]) -> None:
    """Ends the node, unless there is nothing to ask."""
    if questions:
        # Plain values only, as checkpoints allow no others.
        interrupt([{**asdict(question), "kind": question.kind.value} for question in questions])


def _call_id(place: Place) -> str:
    """As short as those of models, and the same whenever the node runs."""
    return f"call_{hashlib.sha256(place.key.encode()).hexdigest()[:_ID_CHARS]}"


def _system_prompt(messages: Sequence[BaseMessage]) -> Callable[[Sequence[str]], str]:
    """The system message as it is: a graph puts memories wherever it wants."""
    first = messages[0]
    text = str(first.content) if isinstance(first, SystemMessage) else ""
    return lambda _memories: text
