"""Agents that pass a conversation on to each other. One at a time talks to the user."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from langchain_core.messages import AIMessage, BaseMessage

from mesh_agent.graph.coded.run import CodedRun
from mesh_agent.graph.team.agent import Agent, Transfer
from mesh_agent.graph.team.turns import transfers
from mesh_agent.plans.plan import PlannedMember, PlannedTeam


async def hand_over(
    run: CodedRun, team: PlannedTeam, first: str, conversation: Sequence[BaseMessage], memories: Sequence[str]
) -> AIMessage:
    """The answer of the agent that has the conversation in the end.

    `first` has it now: the run's own assistant if that is no name of a member.
    """
    agents = _agents(run, team)
    messages = list(conversation)
    active = first if first in agents else run.attempt.plan.origin.name
    stage = 0
    while True:
        others = [agent for name, agent in agents.items() if name != active]
        label = "" if active == run.attempt.plan.origin.name else active
        agent = Agent(
            run.agent(label, agents[active].plan, f"{stage}."), memories, name=label, transfers=transfers(others)
        )
        ended = await agent.work(messages)
        if not isinstance(ended, Transfer):
            return ended
        messages += ended.messages
        active = ended.to
        stage += 1


def _agents(run: CodedRun, team: PlannedTeam) -> Mapping[str, PlannedMember]:
    """All of them by name: the run's own assistant as well."""
    plan = run.attempt.plan
    own = PlannedMember(plan.origin.name, "It has had the conversation before.", replace(plan, team=None))
    return {own.name: own} | {member.name: member for member in team.members}
