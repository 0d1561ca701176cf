"""The form that an answer must have, as requests and assistants describe it: the one of OpenAI's API."""

from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

MAX_SCHEMA_CHARS: Final = 32_768


_OF_ANSWERS: Final[dict[str, JsonValue]] = {
    "properties": {"type": {"enum": ["object", "array"]}},
    "required": ["type"],
}


class JsonSchemaFormat(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] = "answer"
    """For the model."""
    json_schema: dict[str, JsonValue] = Field(alias="schema", json_schema_extra=_OF_ANSWERS)
    """JSON Schema of an object or an array, at most 32,768 characters, without references to other documents."""
    strict: bool = False
    """Whether the provider is to hold the model to the schema while it writes; few schemas are fit for that."""

    @field_validator("json_schema")
    @classmethod
    def _is_bounded(cls, schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
        try:
            text = orjson.dumps(schema)
        except TypeError as error:
            raise ValueError("is not JSON that can be stored") from error
        if len(text) > MAX_SCHEMA_CHARS:
            raise ValueError(f"is longer than {MAX_SCHEMA_CHARS} characters")
        return schema


class ResponseFormat(BaseModel):
    """An answer that is JSON of a schema, instead of text."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat

    def as_json(self) -> str:
        """Equal formats give equal texts."""
        return orjson.dumps(self.model_dump(by_alias=True), option=orjson.OPT_SORT_KEYS).decode()

    @property
    def schema_of_answer(self) -> dict[str, Any]:
        return self.json_schema.json_schema
