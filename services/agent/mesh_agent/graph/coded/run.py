"""What the mesh lends the nodes of a graph in code: the implementation of `mesh_agent.sdk.Run`."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, cast

import orjson
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage
from langgraph.types import interrupt
from mesh_common.errors import PreconditionFailed

from mesh_agent.checkpoint import RunCheckpoints
from mesh_agent.domain.interrupts import DecidedCall, DecisionKind, InterruptKind, Question
from mesh_agent.graph.approval import review
from mesh_agent.graph.call_order import CallOrder
from mesh_agent.graph.coded.recording import Place, Places, Recording
from mesh_agent.graph.nodes import tool_calls
from mesh_agent.graph.rounds import CodedListener, LoopInput, RoundListener, Rounds
from mesh_agent.graph.tool_calls import RUN, call_at_safe_point, result_message
from mesh_agent.graph.window import history_messages
from mesh_agent.llm.completion import AnswerFullError
from mesh_agent.llm.fallback import FallbackModel
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.plans.plan import PlannedMember, PlannedTool, RunPlan
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


@dataclass(frozen=True, slots=True)
class Lent:
    """What an attempt lends to what it runs. `is_enabled`: whether a member of a team may work at the moment."""

    fallback: FallbackModel
    registry: ToolRegistry
    checkpoints: RunCheckpoints
    listener: CodedListener
    is_enabled: Callable[[PlannedMember], bool] = lambda _: True


class CodedRun(Run[Any]):
    """One attempt of a run of a graph in code, or of one agent of a team."""

    def __init__(
        self, attempt: LoopInput, rounds: Rounds, lent: Lent, recording: Recording, config: Any, scope: str = ""
    ) -> None:
        claim = lent.checkpoints.claim
        self.message, self.config = attempt.message, config
        self.run_id, self.thread_id = claim.run_id, claim.thread_id
        self.organisation_id, self.user_id = claim.subject.organisation_id, claim.subject.user_id
        self.tools = tuple(tool.name for tool in attempt.plan.tools)
        self.attempt = attempt
        self.rounds = rounds
        self.lent = lent
        self.listener = lent.listener
        self.recording = recording
        self.places = Places(scope)
        self._registry = lent.registry
        self._order = CallOrder()
        # Two texts at once would be mixed.
        self._speaking = asyncio.Lock()
        self._recalled: asyncio.Future[list[str]] | None = None

    def agent(self, name: str, plan: RunPlan, scope: str) -> "CodedRun":
        """The same run for another agent of its team, with that agent's plan. `scope` is unique to what it works on.

        `name` is empty for the run's own assistant. Raises Unavailable if none of the plan's models is here.
        """
        attempt = replace(self.attempt, plan=plan, models=self.attempt.models_of(plan.models))
        lent = replace(self.lent, listener=self.listener.member(name)) if name else self.lent
        return CodedRun(attempt, self.rounds.of(attempt), lent, self.recording, None, scope)

    async def history(self) -> list[BaseMessage]:
        return history_messages(await self.attempt.recent_messages(), self.attempt.plan.history_tokens)

    async def recall(self) -> list[str]:
        if self._recalled is None:
            self._recalled = asyncio.ensure_future(self._recall())
        return list(await asyncio.shield(self._recalled))

    async def _recall(self) -> list[str]:
        return [memory.text for memory in await self.attempt.recall()]

    async def ask(
        self, messages: Sequence[BaseMessage], *, tools: Sequence[str] = (), to_user: bool = False
    ) -> AIMessage:
        if not messages:
            raise ValueError("a model must be asked something")
        planned = [self._tool(name) for name in tools]
        return await self.answer(list(messages), planned, to_user=to_user)

    async def answer(
        self,
        messages: list[BaseMessage],
        planned: Sequence[PlannedTool],
        *,
        to_user: bool,
        metadata: Mapping[str, Any] | None = None,
        is_last: bool = False,
        reserved_rounds: int = 0,
    ) -> AIMessage:
        """As `ask`. `metadata` is recorded with the answer. `is_last`, `reserved_rounds`: as `Budget.count`."""
        place = self.places.next()
        if known := self.recording.get(place):
            if not to_user and self._is_own(known) and known.text:
                self.listener.repeat_aside(known.text, str(known.response_metadata.get("model", "")))
            return cast("AIMessage", known)
        self.rounds.budget.count(may_overspend=is_last, reserved_rounds=reserved_rounds)
        if not to_user:
            return await self._answered(place, messages, planned, self.listener.aside(), metadata)
        async with self._speaking:
            return await self._answered(place, messages, planned, self.listener, {**(metadata or {}), SAID: True})

    def _is_own(self, message: BaseMessage) -> bool:
        return bool(message.response_metadata.get(RUN) == str(self.run_id))

    async def _answered(
        self,
        place: Place,
        messages: list[BaseMessage],
        planned: Sequence[PlannedTool],
        listener: RoundListener,
        metadata: Mapping[str, Any] | None = None,
    ) -> AIMessage:
        try:
            answer = await self.rounds.ask(listener, messages, planned, _system_prompt(messages))
        except ProviderError:
            listener.fail_round()
            raise
        answer.response_metadata.update(metadata or {})
        await self.recording.add(place, answer)
        return answer

    async def say(self, text: str) -> None:
        place = self.places.next()
        if not text or self.recording.get(place):
            return
        async with self._speaking:
            try:
                self.listener.say(str(text))
            except AnswerFullError as error:
                raise PreconditionFailed("The answer is too long.", reason="ANSWER_TOO_LONG") from error
            await self.recording.add(place, AIMessage(text, response_metadata={RUN: str(self.run_id), SAID: True}))

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolMessage:
        place = self.places.next()
        [message] = await self._called([(place, ToolCall(_call_id(place), tool, _plain(arguments)))])
        return message

    async def call_tools(self, answer: AIMessage) -> list[ToolMessage]:
        return await self._called([(self.places.next(), call) for call in tool_calls(answer)])

    async def called(self, calls: Sequence[tuple[Place, ToolCall]]) -> list[ToolMessage]:
        """As `call_tools`, but raises PersonNeededError instead of ending the node."""
        return await self._called(calls, _raise_questions)

    async def _called(
        self,
        calls: Sequence[tuple[Place, ToolCall]],
        ask_person: Callable[[Sequence[Question]], None] | None = None,
    ) -> list[ToolMessage]:
        """Asks a person about all of the calls together, before any of them is made."""
        reviewed = [(place, review(self._registry, self.attempt.plan.tools, call, place.key)) for place, call in calls]
        missing = [
            one.question
            for place, one in reviewed
            if one.question and not self._decision(one.question) and not self.recording.get(place)
        ]
        (ask_person or interrupt_for)(missing)
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
        if known := self.recording.get(place):
            return cast("ToolMessage", known)
        async with self._order.entering(is_parallel=is_parallel):
            result = await call_at_safe_point(
                self._registry, self.attempt.plan.tools, self.lent.checkpoints, self.listener, call, place.key, decided
            )
        message = result_message(result, str(self.run_id), decided)
        await self.recording.add(place, message)
        return message

    async def ask_person(self, question: str, schema: Mapping[str, Any] | None = None) -> Any:
        place = self.places.next()
        schema = _TEXT if schema is None else schema
        if fault := schema_fault(schema):
            raise ValueError(f"the schema of an answer is not valid: {fault}")
        if not 0 < len(question) <= _MAX_QUESTION_CHARS:
            raise ValueError(f"a question has 1 to {_MAX_QUESTION_CHARS} characters")
        asked = Question(place.key, InterruptKind.QUESTION, _call_id(place), "", "{}", str(question), to_json(schema))
        decided = self._decision(asked)
        if decided is None:
            interrupt_for([asked])
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
        self.listener.custom(name, data_json.decode())

    def _decision(self, question: Question | None) -> DecidedCall | None:
        decided = self.attempt.decided.get(question.call_key) if question else None
        return decided if decided and question and decided.is_about(question) else None

    def _tool(self, name: str) -> PlannedTool:
        found = next((tool for tool in self.attempt.plan.tools if tool.name == name), None)
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


class PersonNeededError(Exception):
    """An agent of a team cannot go on before a person has decided."""

    def __init__(self, questions: Sequence[Question]) -> None:
        super().__init__(f"{len(questions)} questions")
        self.questions = tuple(questions)


def _raise_questions(questions: Sequence[Question]) -> None:
    if questions:
        raise PersonNeededError(questions)


def interrupt_for(questions: Sequence[Question]) -> None:
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
