"""Tickets at a gateway."""

import httpx


def require_refused(response: httpx.Response) -> None:
    assert (response.status_code, response.json()["reason"]) == (401, "INVALID_TICKET"), response.text
    assert response.headers["content-type"] == "application/problem+json"
