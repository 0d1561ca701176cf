"""Accounts at a gateway, and their tokens."""

from typing import Any

from mesh_common.ids import new_id

from support.gateway import Client

ME = "/api/v1/auth/me"
PASSWORD = "correct horse battery staple"


async def some_account(gateway: Client) -> str:
    email = f"{new_id()}@example.com"
    await gateway.http.post("/api/v1/auth/register", json={"email": email, "password": PASSWORD})
    return email


async def login(gateway: Client, email: str, password: str = PASSWORD) -> dict[str, Any]:
    response = await gateway.http.post("/api/v1/auth/login", data={"username": email, "password": password})
    return dict(response.json())
