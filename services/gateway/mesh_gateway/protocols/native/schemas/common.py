"""The parts that all bodies share: text that PostgreSQL can store, metadata, pages, problems."""

from typing import Annotated, Any, Final

from mesh_common.json_schema import document_names
from mesh_common.text import VISIBLE_CHARACTER, composed, is_visible
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from mesh_gateway.edge.patterns import CURSOR


def without_surrogates(text: str) -> str:
    """Rejects half a surrogate pair (`"\\ud800"`): JSON and pydantic allow it, but UTF-8 cannot encode it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return text


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the NUL character")
    return without_surrogates(text)


def _not_blank(text: str) -> str:
    if not is_visible(text):
        raise ValueError("should not be empty")
    return text


def _not_blank_if_given(text: str) -> str:
    return _not_blank(text) if text else text


def _documented(pattern: str) -> Any:
    """A pattern for the OpenAPI document of what a validator checks."""
    return Field(json_schema_extra={"pattern": pattern})


_NO_NUL: Final = r"^[^\u0000]*$"
_VISIBLE: Final = rf"^[^\u0000]*{VISIBLE_CHARACTER}[^\u0000]*$"
CleanText = Annotated[str, AfterValidator(_storable), _documented(_NO_NUL)]
# Text that a reader can see at least one character of.
VisibleText = Annotated[CleanText, AfterValidator(_not_blank), _documented(_VISIBLE)]
Title = Annotated[
    CleanText,
    AfterValidator(composed),
    StringConstraints(max_length=200),
    AfterValidator(_not_blank_if_given),
    _documented(f"^$|{_VISIBLE}"),
]
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=CURSOR)]
Metadata = Annotated[
    dict[
        Annotated[CleanText, StringConstraints(min_length=1, max_length=64)],
        Annotated[CleanText, StringConstraints(max_length=512)],
    ],
    Field(
        max_length=16,
        description="At most 16 pairs; keys of 64, values of 512 characters.",
        json_schema_extra=document_names,
    ),
]


class Body(BaseModel):
    """A request body. Unknown fields are ignored, because clients of other APIs send them."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Answer(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)


class Page[T](Answer):
    """One page of a list. `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None = None


class FieldError(Answer):
    """One field that is wrong."""

    field: str = Field(examples=["message"])
    message: str = Field(examples=["should not be empty"])


class Problem(Answer):
    """An error (RFC 9457). Branch on `reason`; report `trace_id`."""

    type: str = Field(examples=["urn:mesh:problem:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such thread."])
    reason: str = Field(examples=["NOT_FOUND"], description="Stable, UPPER_SNAKE.")
    trace_id: str = Field(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])
    errors: list[FieldError] | None = Field(default=None, description="Only with status 422: the invalid fields.")
    run_id: str | None = Field(default=None, description="Only if a run was acknowledged before the error.")
    thread_id: str | None = Field(default=None, description="As run_id.")
    run_status: str | None = Field(
        default=None,
        description="Only if the error ended that run: the same Idempotency-Key returns the same end again.",
        examples=["failed"],
    )
