"""Runs, one-call chat and their answers."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from mesh_common.response_format import ResponseFormat
from pydantic import Field, StringConstraints

from mesh_gateway.domain import RunStatus
from mesh_gateway.protocols.native.schemas.assistants import AssistantReference
from mesh_gateway.protocols.native.schemas.common import Answer, Body, CleanText, Metadata, VisibleText
from mesh_gateway.protocols.native.schemas.interrupts import Interrupt
from mesh_gateway.protocols.native.schemas.threads import Message
from mesh_gateway.runs.order import Multitask


class ChatBody(Body):
    message: Annotated[VisibleText, StringConstraints(min_length=1, max_length=32_000)] = Field(
        examples=["What is the capital of France?"]
    )
    model: Annotated[CleanText, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, description="A name from GET /api/v1/models; absent means the registry's order."
    )
    metadata: Metadata = Field(default_factory=dict, description="Kept with the run.")
    assistant: AssistantReference | None = Field(
        default=None,
        description="`name` or `name@version` from GET /api/v1/assistants; absent for the thread's, or `default`.",
        examples=["proofreader"],
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="The form of the answer; absent for the assistant's, or text."
    )


class OneCallBody(ChatBody):
    thread_id: UUID | None = Field(default=None, description="If absent, a new thread is created.")


class BackgroundRunBody(ChatBody):
    multitask: Multitask = Field(
        default="enqueue",
        description=(
            "If the thread has an unended run: `enqueue` waits for it, `reject` answers 409, `interrupt` cancels it "
            "and all pending ones, keeps its text so far, and then runs; `rollback` cancels them, removes "
            "their messages from the thread, and then runs."
        ),
    )


class RunBody(BackgroundRunBody):
    on_disconnect: Literal["continue", "cancel"] = Field(
        default="continue", description="What happens to the run if the client disconnects from this request."
    )


class Usage(Answer):
    input_tokens: int = Field(examples=[312])
    output_tokens: int = Field(examples=[9])
    cost_usd: float = Field(examples=[0.000052])


class RunFault(Answer):
    """Why a run failed."""

    reason: str = Field(examples=["MODEL_UNAVAILABLE"])
    detail: str
    retryable: bool


class Run(Answer):
    id: str = Field(examples=["0199f0c4-4444-7c3a-8f11-3a4b5c6d7e8f"])
    thread_id: str
    status: RunStatus
    attempt: int = Field(description="From 1; 0 while pending for the first time.")
    model: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    finish_reason: str | None = Field(default=None, examples=["stop"])
    usage: Usage | None = None
    error: RunFault | None = None
    message: Message | None = Field(default=None, description="The final message; not in lists.")
    metadata: dict[str, str]
    assistant: str = Field(default="", description="Empty for runs of releases without assistants.")
    assistant_version: str = Field(default="", description="Empty if the assistant comes from the settings.")
    resumes_run_id: str | None = Field(default=None, description="The interrupted run that this run resumes.")
    interrupts: list[Interrupt] = Field(
        default_factory=list, description="What an interrupted run asks, and what was decided; not in lists."
    )
    usage_by_agent: dict[str, Usage] = Field(
        default_factory=dict, description="By the agent's name, once the run of a team has ended. The sum is `usage`."
    )


class StartedRun(Answer):
    """A run that continues without this request."""

    run_id: str = Field(examples=["0199f0c4-4444-7c3a-8f11-3a4b5c6d7e8f"])
    thread_id: str


class StreamTicket(Answer):
    """A ticket to follow one run's events once without an access token."""

    ticket: str = Field(examples=["0Rz9vXk2Jw0m5oVq7b1uHc3TnYdLeaGsiFpKjQ8WxZ4"], description="A secret.")
    expires_at: datetime = Field(description="60 seconds from now.")
    url: str = Field(description="Path of the events including the ticket, for `new EventSource(url)`.")


class AnswerMessage(Answer):
    id: str = Field(description="Empty if the run was interrupted before it said anything.")
    role: Literal["assistant"] = "assistant"
    content: str = Field(examples=["Paris."])
    parsed: Any = Field(default=None, description="The content as JSON, if the run has a `response_format`.")


class RecalledMemory(Answer):
    id: str
    text: str = Field(examples=["The user lives in Lyon."])
    similarity: float = Field(description="Cosine similarity to the message, -1..1.")


class ChatAnswer(Answer):
    run_id: str
    thread_id: str
    message: AnswerMessage
    finish_reason: str = Field(
        examples=["stop"], description="`interrupted` if the run waits for decisions of a person."
    )
    usage: Usage
    memories: list[RecalledMemory] = Field(description="The memories that the model was given, best first.")
    is_memory_unavailable: bool = Field(default=False, description="True if memory was unavailable.")
    interrupts: list[Interrupt] = Field(
        default_factory=list, description="What an interrupted run asks: POST the decisions to /runs/{run_id}/resume."
    )
