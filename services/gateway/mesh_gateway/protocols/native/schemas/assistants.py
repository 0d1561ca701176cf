"""Assistants."""

from datetime import datetime
from typing import Annotated, Any, Final

from mesh_common.assistant import NAME, REFERENCE, AssistantSpec
from pydantic import Field, StringConstraints

from mesh_gateway.domain import AssistantSource, AssistantVisibility
from mesh_gateway.protocols.native.schemas.common import Answer, Body

AssistantReference = Annotated[str, StringConstraints(max_length=80, pattern=REFERENCE)]
AssistantName = Annotated[str, StringConstraints(max_length=63, pattern=NAME)]
AssistantVersion = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,16}$")]


_EXAMPLE: Final = {"instructions": "Correct the spelling, and change nothing else.", "tools": []}


class CreateAssistantBody(Body):
    name: AssistantName = Field(examples=["proofreader"])
    spec: AssistantSpec = Field(description="What it is and may do.", examples=[_EXAMPLE])
    visibility: AssistantVisibility = Field(
        default="private", description="`private` to you, or for all members of your `organisation`."
    )


class UpdateAssistantBody(Body):
    spec: AssistantSpec = Field(description="The whole new description.", examples=[_EXAMPLE])
    visibility: AssistantVisibility | None = Field(default=None, description="Absent leaves it as it is.")


class CurrentVersionBody(Body):
    version: AssistantVersion = Field(examples=["2"], description="The version that new runs are to use.")


class Assistant(Answer):
    name: str = Field(examples=["proofreader"])
    version: str = Field(examples=["3"], description="Also the `ETag`.")
    is_current: bool = Field(description="Whether new runs use this version.")
    source: AssistantSource
    visibility: AssistantVisibility | str
    is_disabled: bool
    spec: dict[str, Any] = Field(description="As it was stored, without what has its default.")
    created_at: datetime | None = Field(default=None, description="Absent for files.")
    created_by: str | None = Field(default=None, description="Who stored this version; absent for files.")
