"""What interrupted runs ask, and the decisions that resume them."""

import json
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, JsonValue, StringConstraints

from mesh_gateway.protocols.native.schemas.common import Answer, Body, CleanText


def _encodable(value: Any) -> Any:
    """Rejects what cannot be sent on: lone surrogates, infinity, values nested too deeply."""
    try:
        dump_exactly(value)
    except (ValueError, RecursionError):
        raise ValueError("has text, numbers or a depth that JSON cannot carry") from None
    return value


def dump_exactly(value: Any) -> str:
    """Raises ValueError for what JSON cannot express. Keeps integers of more than 64 bits, which orjson refuses."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    text.encode()
    return text


DecisionName = Literal["approve", "edit", "reject", "answer"]
_JSON: Final = AfterValidator(_encodable)


class DecisionBody(Body):
    call_id: Annotated[CleanText, StringConstraints(min_length=1, max_length=512)] = Field(
        description="Of the interrupt.", examples=["call_0"]
    )
    decision: DecisionName = Field(description="One that the interrupt allows.")
    arguments: Annotated[dict[str, JsonValue], _JSON] | None = Field(
        default=None, description="For `edit`: the arguments with which the call is made."
    )
    answer: Annotated[JsonValue, _JSON] = Field(
        default=None, description="For `answer`: a value that fits the interrupt's answer_schema."
    )
    message: Annotated[CleanText, StringConstraints(max_length=2_000)] = Field(
        default="", description="For `reject`: what to tell the model."
    )


class ResumeBody(Body):
    decisions: Annotated[list[DecisionBody], Field(min_length=1, max_length=100)] = Field(
        description="Exactly one for each interrupt of the run.",
        examples=[[{"call_id": "call_0", "decision": "approve"}]],
    )


class ResumeAndFollowBody(ResumeBody):
    on_disconnect: Literal["continue", "cancel"] = Field(
        default="continue", description="What happens to the new run if the client disconnects from this request."
    )


class InterruptDecision(Answer):
    decision: str = Field(description="`approve`, `edit`, `reject` or `answer`.")
    decided_by: str | None = Field(description="The user; null if it expired, or if a new message came first.")
    decided_at: datetime
    arguments: Any = Field(default=None, description="The edited arguments.")
    answer: Any = None
    message: str | None = Field(default=None, description="Why it was rejected.")


class Interrupt(Answer):
    """One question of an interrupted run to a person."""

    id: str = Field(examples=["0199f0c4-5555-7c3a-8f11-3a4b5c6d7e8f"])
    run_id: str
    thread_id: str
    kind: str = Field(description="`approval` of a tool call, or `question` of the model.", examples=["approval"])
    call_id: str = Field(examples=["call_0"])
    tool: str = Field(examples=["book_room"])
    arguments: Any = Field(description="Of the call: an object.")
    question: str | None = Field(default=None, description="Only for a question.")
    answer_schema: Any = Field(default=None, description="JSON Schema of the answer; null for an approval.")
    allowed: list[str] = Field(description="What may be decided.", examples=[["approve", "edit", "reject"]])
    created_at: datetime
    expires_at: datetime = Field(description="When it is rejected unless decided before.")
    decision: InterruptDecision | None = Field(default=None, description="Null while the run waits.")
