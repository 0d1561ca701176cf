"""The request of one call: its address, headers and body, from the arguments and the operation's parameters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from mesh_agent.sdk.tool import ToolError
from mesh_agent.tools.call import to_json
from mesh_agent.tools.openapi.operations import BODY, Operation, Parameter

# What a path may contain as it is; the rest of RFC 3986's `pchar` means something to some servers.
_SAFE: Final = "-._~"


@dataclass(frozen=True, slots=True)
class Request:
    url: str
    headers: Mapping[str, str]
    body: bytes | None


def request_of(operation: Operation, base_url: str, arguments: Mapping[str, Any]) -> Request:
    """Raises ToolError for values that would reach another address than the operation's."""
    path = operation.path
    query: list[tuple[str, str]] = []
    headers: dict[str, str] = {}
    for parameter in operation.parameters:
        if (value := arguments.get(parameter.argument)) is None:
            continue
        match parameter.place:
            case "path":
                path = path.replace(f"{{{parameter.name}}}", _segment(parameter, value))
            case "query":
                query += _pairs(parameter, value)
            case _:
                headers[parameter.name] = _header(parameter, value)
    body = None
    if operation.body_type and BODY in arguments:
        headers["Content-Type"] = operation.body_type if "*" not in operation.body_type else "application/json"
        body = _body(headers["Content-Type"], arguments[BODY])
    text = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return Request(f"{base_url.rstrip('/')}{path}{text}", headers, body)


def _segment(parameter: Parameter, value: Any) -> str:
    text = ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
    if text in {"", ".", ".."}:
        raise ToolError(f"The arguments are not valid: {parameter.argument}: must not be empty, `.` or `..`")
    return quote(text, safe=_SAFE)


def _header(parameter: Parameter, value: Any) -> str:
    text = ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
    if not text.isascii() or not text.isprintable():
        raise ToolError(f"The arguments are not valid: {parameter.argument}: must be printable ASCII")
    return text


def _pairs(parameter: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    name = parameter.name
    match value:
        case list() if parameter.explodes:
            yield from ((name, _text(one)) for one in value)
        case list():
            separator = {"spaceDelimited": " ", "pipeDelimited": "|"}.get(parameter.style, ",")
            yield name, separator.join(map(_text, value))
        case dict() if parameter.style == "deepObject":
            yield from ((f"{name}[{key}]", _text(one)) for key, one in value.items())
        case dict() if parameter.explodes:
            yield from ((str(key), _text(one)) for key, one in value.items())
        case _:
            yield name, _text(value)


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case _:
            return to_json(value)


def _body(media_type: str, value: Any) -> bytes:
    if "json" in media_type or not isinstance(value, dict):
        return to_json(value).encode()
    pairs = [(str(name), _text(one)) for name, value in value.items() for one in _listed(value)]
    return urlencode(pairs).encode()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
