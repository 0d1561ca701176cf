"""What pydantic's JSON Schemas leave out."""

from typing import Any


def document_names(schema: dict[str, Any]) -> None:
    """Says which names the pairs of a mapping may have. As pydantic documents them, others may have any value."""
    [(pattern, values)] = schema.pop("patternProperties").items()
    schema.setdefault("propertyNames", {})["pattern"] = pattern
    schema["additionalProperties"] = values
