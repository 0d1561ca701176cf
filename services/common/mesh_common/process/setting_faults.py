"""Faults of settings as lines for people: the variable and what is wrong with it, never its value."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# What pydantic says of a text where a list or an object was expected: the variable was no JSON, or of another kind.
_KINDS: Final = {
    "tuple_type": "must be a JSON list",
    "list_type": "must be a JSON list",
    "set_type": "must be a JSON list",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "missing": "is required",
}


def fault_lines(error: ValidationError, env_prefix: str) -> Iterator[str]:
    """One for each fault, in the order of the settings."""
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        variable = _variable(fault["loc"], env_prefix)
        # A rule about several settings belongs to none; its sentence names them.
        yield f"{variable}: {_sentence(fault)}" if variable else _sentence(fault)


def _variable(location: tuple[Any, ...], env_prefix: str) -> str:
    if not location:
        return ""
    name, *inside = (str(part) for part in location)
    variable = name if name.isupper() else f"{env_prefix}{name}".upper()
    return ".".join((variable, *inside))


def _sentence(fault: ErrorDetails) -> str:
    return _KINDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
