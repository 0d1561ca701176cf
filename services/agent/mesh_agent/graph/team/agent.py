"""One agent of a team at work: asks its model, makes its calls and gives tasks to its members, until it answers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from mesh_common.errors import Unavailable
from mesh_common.process.telemetry import tracer
from opentelemetry.trace import Status, StatusCode

from mesh_agent.domain.tools import ToolResult
from mesh_agent.graph.budget import BudgetError
from mesh_agent.graph.coded.recording import AGENT, Place
from mesh_agent.graph.coded.run import CodedRun, PersonNeededError
from mesh_agent.graph.nodes import tool_calls
from mesh_agent.graph.team.turns import Turn, tasks
from mesh_agent.graph.tool_calls import result_message
from mesh_agent.graph.window import fitting_prompt
from mesh_agent.llm.provider_errors import ProviderError
from mesh_agent.plans.plan import PlannedMember, TeamKind
from mesh_agent.tools.call import ToolCall

# In a message's `response_metadata`: no calls follow the answer, whatever it contains.
_LAST: Final = "mesh_last"
# Of a member's answer, for the agent that gave the task.
_MAX_ANSWER_CHARS: Final = 32_000


@dataclass(frozen=True, slots=True)
class Transfer:
    """The agent has passed the conversation on. `messages`: what it added to the conversation."""

    to: str
    messages: Sequence[BaseMessage]


class Agent:
    """`depth`: how many agents wait for this one. Each of them keeps a round for its own answer.

    `transfers`: tools that pass the conversation on, by name.
    """

    def __init__(
        self,
        run: CodedRun,
        memories: Sequence[str],
        *,
        name: str = "",
        depth: int = 0,
        transfers: Mapping[str, Turn] | None = None,
    ) -> None:
        plan = run.attempt.plan
        is_supervisor = plan.team is not None and plan.team.kind is TeamKind.SUPERVISOR
        self._run = run
        self._name = name
        self._depth = depth
        self._memories = memories
        self._tasks = tasks(plan.team.members) if plan.team and is_supervisor else {}
        self._transfers = transfers or {}
        turns = {**self._tasks, **self._transfers}
        own = [tool for tool in plan.tools if tool.name not in turns]
        self._tools = [*own, *(turn.tool for turn in turns.values())]
        self._asked = 0

    async def answer(self, conversation: Sequence[BaseMessage]) -> AIMessage:
        """As `work`, of an agent without transfers."""
        ended = await self.work(conversation)
        if isinstance(ended, Transfer):
            raise TypeError("there is nobody to pass the conversation on to")
        return ended

    async def work(self, conversation: Sequence[BaseMessage]) -> AIMessage | Transfer:
        """`conversation` ends with a message of a user, or with the results of calls. Raises PersonNeededError."""
        messages = [self._instructions(conversation), *conversation]
        while True:
            answer = await self._ask(messages)
            calls = tool_calls(answer)
            if not calls or answer.response_metadata.get(_LAST):
                return answer
            results = await self._results(calls)
            messages += [answer, *results]
            for call, result in zip(calls, results, strict=True):
                if call.name in self._transfers and result.status == "success":
                    return Transfer(self._transfers[call.name].member.name, messages[1 + len(conversation) :])

    def _instructions(self, conversation: Sequence[BaseMessage]) -> SystemMessage:
        attempt = self._run.attempt
        budget_tokens = max(model.input_budget_tokens for model in attempt.models)
        memories = self._memories if attempt.plan.memory.recalls else ()
        last = next((message for message in reversed(conversation) if isinstance(message, HumanMessage)), None)
        text = str(last.content) if last else ""
        return SystemMessage(fitting_prompt(attempt.plan.instructions.prompt, memories, text, budget_tokens))

    async def _ask(self, messages: list[BaseMessage]) -> AIMessage:
        budget = self._run.rounds.budget
        self._asked += 1
        is_last = (
            self._asked >= self._run.attempt.plan.limits.rounds
            or budget.left_rounds <= self._depth + 1
            or budget.is_spent
        )
        return await self._run.answer(
            messages,
            () if is_last else self._tools,
            to_user=not self._depth,
            metadata={AGENT: self._name, _LAST: is_last},
            is_last=is_last,
            reserved_rounds=self._depth,
        )

    async def _results(self, calls: Sequence[ToolCall]) -> list[ToolMessage]:
        """The results of all calls, in their order. What any of them asks a person is asked for together."""
        placed = [(self._run.places.next(), call) for call in calls]
        turns = [one for one in placed if self._turn(one[1])]
        others = [one for one in placed if not self._turn(one[1])]
        made, *turned = await asyncio.gather(
            self._run.called(others), *(self._turned(place, call) for place, call in turns), return_exceptions=True
        )
        outcomes = [made, *turned]
        _raise_errors([outcome for outcome in outcomes if isinstance(outcome, BaseException)])
        found = dict(zip((place.key for place, _ in others), cast("list[ToolMessage]", made), strict=True))
        found |= zip((place.key for place, _ in turns), cast("list[ToolMessage]", turned), strict=True)
        return [found[place.key] for place, _ in placed]

    def _turn(self, call: ToolCall) -> Turn | None:
        return None if call.fault else self._tasks.get(call.name) or self._transfers.get(call.name)

    async def _turned(self, place: Place, call: ToolCall) -> ToolMessage:
        """The result of a call that turns to another agent."""
        if known := self._run.recording.get(place):
            return cast("ToolMessage", known)
        listener = self._run.listener
        listener.tool_started(call)
        try:
            content, is_error = await self._content(place, call)
        except PersonNeededError:
            listener.tool_paused(call)
            raise
        content = content[:_MAX_ANSWER_CHARS].replace("\x00", "\ufffd")
        result = ToolResult(call.id, call.name, call.arguments_json, content, is_error=is_error)
        listener.tool_finished(call, result)
        message = result_message(result, str(self._run.run_id))
        await self._run.recording.add(place, message)
        return message

    async def _content(self, place: Place, call: ToolCall) -> tuple[str, bool]:
        """The text of the result, and whether it is an error."""
        turn = self._turn(call)
        if turn is None:
            raise AssertionError("the call turns to nobody")
        lent = self._run.lent
        if faults := lent.registry.faults(call.arguments, turn.tool):
            return f"The arguments are not valid: {faults}", True
        if not lent.is_enabled(turn.member):
            return f"The agent {turn.member.name} is disabled.", True
        if call.name in self._transfers:
            return f"The conversation is with the agent {turn.member.name} now.", False
        return await self._delegated(place, turn.member, str(call.arguments["task"]))

    async def _delegated(self, place: Place, member: PlannedMember, task: str) -> tuple[str, bool]:
        with tracer.start_as_current_span("invoke_agent", record_exception=False) as span:
            span.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": member.name})
            try:
                answer = await self._answer_of(member, task, f"{place.scope}/")
            except _NoAnswerError as error:
                # The agent that gave the task decides what to do without an answer.
                span.set_status(Status(StatusCode.ERROR, error.reason))
                return f"The agent {member.name} did not answer ({error.reason}).", True
        return answer.text or "(The agent said nothing.)", False

    async def _answer_of(self, member: PlannedMember, task: str, scope: str) -> AIMessage:
        """Raises _NoAnswerError. Everything else, such as a database that is unavailable, ends the attempt: a result
        that the member has got must not be lost."""
        try:
            run = self._run.agent(member.name, member.plan, scope)
        except Unavailable as error:
            raise _NoAnswerError(error.reason) from error
        agent = Agent(run, self._memories, name=member.name, depth=self._depth + 1)
        try:
            return await agent.answer([HumanMessage(task)])
        except ProviderError as error:
            raise _NoAnswerError("MODEL_FAILED") from error
        except BudgetError as error:
            raise _NoAnswerError(error.reason) from error


class _NoAnswerError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _raise_errors(errors: Sequence[BaseException]) -> None:
    for error in errors:
        if not isinstance(error, PersonNeededError):
            raise error
    if questions := [one for error in errors if isinstance(error, PersonNeededError) for one in error.questions]:
        raise PersonNeededError(questions)
