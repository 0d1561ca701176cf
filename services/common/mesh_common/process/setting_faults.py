"""Formats faults of settings for people: the variable and what is wrong with it, never its value."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# Error types of pydantic for a string in place of a list or object: the variable is not JSON, or JSON of another kind.
_KINDS: Final = {
    "tuple_type": "must be a JSON list",
    "list_type": "must be a JSON list",
    "set_type": "must be a JSON list",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "missing": "is required",
}


def fault_lines(error: ValidationError, env_prefix: str) -> Iterator[str]:
    """One line for each fault, in the order of the settings."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    for fault in faults:
        if _follows_from_others(fault, faults):
            continue
        variable = _variable(fault["loc"], env_prefix)
        # A rule about several settings has no variable; its message names them.
        yield f"{variable}: {_sentence(fault)}" if variable else _sentence(fault)


def _follows_from_others(fault: ErrorDetails, faults: list[ErrorDetails]) -> bool:
    """Pydantic counts the entries of a list without the faulty ones."""
    place = fault["loc"]
    return fault["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in faults
    )


def _variable(location: tuple[Any, ...], env_prefix: str) -> str:
    if not location:
        return ""
    name, *inside = (str(part) for part in location)
    variable = name if name.isupper() else f"{env_prefix}{name}".upper()
    return ".".join((variable, *inside))


def _sentence(fault: ErrorDetails) -> str:
    return _KINDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
