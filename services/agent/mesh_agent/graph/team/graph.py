"""The graph of a team: it opens the conversation, and the team works on it."""

from typing import Any, Final, TypedDict

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from mesh_agent.graph.coded.definitions import CodedGraph
from mesh_agent.graph.coded.run import CodedRun, PersonNeededError, interrupt_for
from mesh_agent.graph.nodes import known_finish_reason
from mesh_agent.graph.team.agent import Agent
from mesh_agent.graph.team.handoff import hand_over
from mesh_agent.plans.plan import TeamKind

NAME: Final = "team"


class TeamState(TypedDict, total=False):
    """`conversation` and what follows are those of the first run of the execution: a run that resumes it has another
    history, and no message."""

    message: str
    conversation: list[BaseMessage]
    memories: list[str]
    first_agent: str
    finish_reason: str


type Team = Runtime[CodedRun]


async def opening(state: TeamState, runtime: Team) -> TeamState:
    run = runtime.context
    plan, last_agent = run.attempt.plan, run.attempt.last_agent
    is_handoff = plan.team is not None and plan.team.kind is TeamKind.HANDOFF
    return {
        "conversation": [*await run.history(), HumanMessage(state["message"])],
        "memories": await run.recall() if plan.memory.recalls else [],
        "first_agent": await last_agent() if last_agent and is_handoff else "",
    }


async def working(state: TeamState, runtime: Team) -> TeamState:
    try:
        answer = await _answer(state, runtime.context)
    except PersonNeededError as needed:
        interrupt_for(needed.questions)
        raise AssertionError("an interrupt ends the node") from needed
    return {"finish_reason": known_finish_reason(answer)}


async def _answer(state: TeamState, run: CodedRun) -> AIMessage:
    team = run.attempt.plan.team
    if team is None:
        raise AssertionError("the plan has no team")
    if team.kind is TeamKind.HANDOFF:
        return await hand_over(run, team, state["first_agent"], state["conversation"], state["memories"])
    return await Agent(run, state["memories"]).answer(state["conversation"])


def team_graph(saver: BaseCheckpointSaver[Any]) -> CodedGraph:
    builder: StateGraph[TeamState, CodedRun, TeamState, TeamState] = StateGraph(TeamState, context_schema=CodedRun)
    builder.add_node("opening", opening)
    builder.add_node("working", working)
    builder.add_edge(START, "opening")
    builder.add_edge("opening", "working")
    builder.add_edge("working", END)
    compiled = builder.compile(checkpointer=saver, name=NAME)
    return CodedGraph(NAME, compiled, frozenset({"message"}), None, is_built_in=True)
