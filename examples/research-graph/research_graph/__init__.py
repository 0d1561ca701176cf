"""Researches a question: plans, searches in parallel, writes, and publishes if a person approves."""

import operator
from typing import Annotated, Any, TypedDict

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send
from mesh_agent.sdk import Run, graph
from pydantic import BaseModel, Field

PLAN = "List up to {count} short questions that have to be answered first, one a line, and nothing else."
NOTE = "Answer the question in at most five sentences, from these search results alone:\n\n{results}"
WRITE = "Write a short report that answers the user, from these notes alone. Say what they leave open.\n\n{notes}"


class Config(BaseModel):
    """What an assistant may configure."""

    questions: int = Field(default=3, ge=1, le=10)
    search_tool: str = "web_search"
    publish_tool: str = "publish"


class State(TypedDict, total=False):
    message: str
    questions: list[str]
    notes: Annotated[list[str], operator.add]
    report: str


class Question(TypedDict):
    question: str


type Lent = Runtime[Run[Config]]


async def plan(state: State, runtime: Lent) -> State:
    run = runtime.context
    system = SystemMessage(PLAN.format(count=run.config.questions))
    answer = await run.ask([system, *await run.history(), HumanMessage(state["message"])])
    questions = [line.strip("-*0123456789. ") for line in answer.text.splitlines()]
    found = [question for question in questions if question][: run.config.questions]
    return {"questions": found or [state["message"]]}


async def search(state: Question, runtime: Lent) -> State:
    """Runs once for each question, all at the same time."""
    run, question = runtime.context, state["question"]
    results = await run.call(run.config.search_tool, {"query": question})
    note = await run.ask([SystemMessage(NOTE.format(results=results.text)), HumanMessage(question)])
    run.emit("question_answered", {"question": question})
    return {"notes": [f"## {question}\n\n{note.text}"]}


async def write(state: State, runtime: Lent) -> State:
    """The user reads along while the report is written."""
    system = SystemMessage(WRITE.format(notes="\n\n".join(state["notes"])))
    answer = await runtime.context.ask([system, HumanMessage(state["message"])], to_user=True)
    return {"report": answer.text}


async def publish(state: State, runtime: Lent) -> State:
    """Waits for a person if the tool needs approval, which its operator or the assistant says."""
    run = runtime.context
    result = await run.call(run.config.publish_tool, {"title": state["message"][:200], "text": state["report"]})
    await run.say("The report was not published." if result.status == "error" else "The report is published.")
    return {}


def each_question(state: State) -> list[Send]:
    return [Send("search", {"question": question}) for question in state["questions"]]


@graph(config=Config)
def research() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[State, Run[Config], State, State] = StateGraph(State, context_schema=Run)
    builder.add_node("plan", plan)
    builder.add_node("search", search, input_schema=Question)
    builder.add_node("write", write)
    builder.add_node("publish", publish)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", each_question, ["search"])
    builder.add_edge("search", "write")
    builder.add_edge("write", "publish")
    builder.add_edge("publish", END)
    return builder
