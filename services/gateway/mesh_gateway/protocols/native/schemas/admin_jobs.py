"""Background jobs as administrators see them."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from mesh_gateway.protocols.native.schemas.common import Answer


class JobService(StrEnum):
    """A service with background jobs."""

    AGENT = "agent"
    MEMORY = "memory"
    EVAL = "eval"


class DeadLetter(Answer):
    id: str = Field(examples=["0199f0c4-6666-7c3a-8f11-3a4b5c6d7e8f"])
    kind: str = Field(description="What the job does.", examples=["record_usage"])
    user_id: str = Field(description="The user for whom it is done.")
    reason: str = Field(description="Why it failed last.", examples=["UNAVAILABLE"])
    queued_at: datetime
    failed_at: datetime = Field(description="When it failed last.")
