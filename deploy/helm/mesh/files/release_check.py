"""Run by `helm test` in a pod: checks that the gateway is ready, publishes its keys and refuses calls without a token.

Arguments: the gateway's host, and the seconds it may take to become ready. Uses only the standard library.
"""  # noqa: INP001 - a script, not part of a package

import json
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from threading import Event
from typing import Any

_ANSWER_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    fields: dict[str, Any]


def main(host: str, patience_s: float) -> None:
    unready = _why_not_ready(host, until_s=time.monotonic() + patience_s)
    _expect("the gateway is ready", holds=unready is None, found=unready)
    keys = _ask(host, "GET", "/.well-known/jwks.json")
    _expect("it publishes signing keys", holds=bool(keys.fields.get("keys")), found=keys)
    chat = _ask(host, "POST", "/api/v1/chatbot/chat", {"message": "Hello"})
    _expect("a chat without a token is refused with 401", holds=chat.status == HTTPStatus.UNAUTHORIZED, found=chat)
    is_problem = chat.content_type.startswith("application/problem+json")
    _expect("the refusal is problem+json with its reason", holds=is_problem and "reason" in chat.fields, found=chat)


def _why_not_ready(host: str, *, until_s: float) -> object | None:
    why: object = "not polled"
    while time.monotonic() < until_s:
        # NetworkPolicies take effect shortly after a pod starts; until then every connection fails.
        try:
            why = _ask(host, "GET", "/readyz")
            if why.status == HTTPStatus.OK:
                return None
        except (OSError, HTTPException) as error:
            why = error
        Event().wait(1)
    return why


def _ask(host: str, method: str, path: str, body: dict[str, str] | None = None) -> Answer:
    connection = HTTPConnection(host, timeout=_ANSWER_TIMEOUT_S)
    try:
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, response.getheader("Content-Type", ""), json.loads(response.read() or "{}"))
    finally:
        connection.close()


def _expect(claim: str, *, holds: bool, found: object) -> None:
    sys.stdout.write(f"ok: {claim}\n" if holds else f"FAILED: {claim}; found: {found}\n")
    if not holds:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
