"""Long-term memories."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from mesh_gateway.domain import MemoryOrigin
from mesh_gateway.protocols.native.schemas.common import Answer, Body, VisibleText

MemoryText = Annotated[VisibleText, StringConstraints(min_length=1, max_length=2_000)]


class MemoryBody(Body):
    text: MemoryText = Field(examples=["I am allergic to peanuts."])


class SearchMemoriesBody(Body):
    query: MemoryText = Field(examples=["food"])
    limit: int = Field(default=20, ge=1, le=100)


class Memory(Answer):
    id: str = Field(examples=["0199f0c4-5555-7c3a-8f11-3a4b5c6d7e8f"])
    text: str
    origin: MemoryOrigin = Field(
        description="Extracted by a model, the user's own sentence, or created through this API."
    )
    created_at: datetime
    updated_at: datetime
    run_id: str | None = Field(default=None, description="The run that it came from.")
    similarity: float | None = Field(default=None, description="Only in search: cosine similarity, -1..1.")


class FoundMemories(Answer):
    items: list[Memory] = Field(description="Best first.")


class Forgotten(Answer):
    deleted: int = Field(examples=[12])
