"""Threads and their messages."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from mesh_gateway.domain import Role
from mesh_gateway.protocols.native.schemas.common import Answer, Body, Metadata, Title


class CreateThreadBody(Body):
    title: Title = Field(default="", examples=["Holiday plans"])
    metadata: Metadata = Field(default_factory=dict, examples=[{"project": "atlas"}])


class ForkThreadBody(Body):
    message_id: UUID | None = Field(
        default=None,
        description="The last message to copy; if absent, those of all runs that have ended are copied.",
        examples=["0199f0c4-3333-7c3a-8f11-3a4b5c6d7e8f"],
    )


class UpdateThreadBody(Body):
    """Absent fields do not change; `metadata` replaces all of it."""

    title: Title | None = Field(default=None, examples=["Summer plans"])
    metadata: Metadata | None = Field(default=None, examples=[{"project": "atlas"}])


class Thread(Answer):
    id: str = Field(examples=["0199f0c4-2222-7c3a-8f11-3a4b5c6d7e8f"])
    title: str = Field(examples=["Holiday plans"])
    metadata: dict[str, str] = Field(examples=[{"project": "atlas"}])
    created_at: datetime
    updated_at: datetime
    assistant: str = Field(
        default="", description="What its next runs use unless they name another; empty until a run names one."
    )


class Message(Answer):
    id: str = Field(examples=["0199f0c4-3333-7c3a-8f11-3a4b5c6d7e8f"])
    role: Role
    content: str = Field(examples=["Hello!"])
    created_at: datetime
    run_id: str
    is_partial: bool = Field(description="True if the run was cancelled or failed before the text was complete.")
    agent: str = Field(default="", description="The agent of a team that wrote it; empty for the run's own assistant.")
