"""The login form is UTF-8, raw and percent-encoded; anything else is refused."""

import re
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote, quote_plus

import pytest
from fastapi import params
from fastapi.routing import APIRoute
from mesh_common.ids import new_id
from mesh_gateway.edge.forms import FormRoute
from mesh_gateway.protocols.native.routes import auth
from support.gateway import Client

LOGIN = "/api/v1/auth/login"
PASSWORD = "sieben grüne Kessel 七 pfeifen & 100% + ="
_URLENCODED = "application/x-www-form-urlencoded"


async def _registered(gateway: Client) -> str:
    email = f"zoë.七.{new_id()}@bücher.example"
    response = await gateway.http.post("/api/v1/auth/register", json={"email": email, "password": PASSWORD})
    assert response.status_code == HTTPStatus.CREATED
    return email


async def _status(gateway: Client, body: bytes, content_type: str = _URLENCODED) -> int:
    response = await gateway.http.post(LOGIN, content=body, headers={"Content-Type": content_type})
    if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        assert response.json()["errors"] == [{"field": "body", "message": "could not be read"}]
    return response.status_code


def _raw(value: str) -> str:
    """Only what has a meaning in a form is percent-encoded."""
    return "".join(quote(char) if char in "&=+%" else char for char in value).replace(" ", "+")


def _in_small_digits(value: str) -> str:
    return re.sub("%..", lambda digits: digits[0].lower(), quote(value))


@pytest.mark.parametrize(
    "content_type", [_URLENCODED, f"{_URLENCODED}; charset=utf-8", f"{_URLENCODED}; charset=iso-8859-1"]
)
@pytest.mark.parametrize("encode", [_raw, quote_plus, quote, _in_small_digits])
async def test_names_and_passwords_of_any_letters_log_in(
    gateway: Client, encode: Callable[[str], str], content_type: str
) -> None:
    email = await _registered(gateway)

    body = f"username={encode(email)}&password={encode(PASSWORD)}".encode()

    assert await _status(gateway, body, content_type) == HTTPStatus.OK


@pytest.mark.parametrize(
    "name",
    [b"zo\xeb@example.com", b"zo%EB@example.com", b"zo\xc3@example.com", b"zo%C3@x", b"zo\xed\xa0\x80@example.com"],
)
async def test_form_that_is_not_utf_8_is_422(gateway: Client, name: bytes) -> None:
    status = await _status(gateway, b"username=" + name + b"&password=seven+green+kettles")

    assert status == HTTPStatus.UNPROCESSABLE_ENTITY


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", "; charset=UTF8"])
async def test_multipart_is_utf_8_too(gateway: Client, charset: str) -> None:
    email = await _registered(gateway)

    assert await _status(gateway, _multipart(email.encode()), f"multipart/form-data; boundary=b{charset}") == 200


@pytest.mark.parametrize(
    ("name", "charset"), [(b"zo\xeb@example.com", ""), (b"zo\xeb@example.com", "; charset=iso-8859-1")]
)
async def test_multipart_that_is_not_utf_8_is_422(gateway: Client, name: bytes, charset: str) -> None:
    status = await _status(gateway, _multipart(name), f"multipart/form-data; boundary=b{charset}")

    assert status == HTTPStatus.UNPROCESSABLE_ENTITY


def _multipart(name: bytes) -> bytes:
    parts = ((b"username", name), (b"password", PASSWORD.encode()))
    fields = (b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % part for part in parts)
    return b"".join(fields) + b"--b--\r\n"


def test_every_route_that_reads_a_form_reads_utf_8() -> None:
    routes = [route for route in auth.router.routes if isinstance(route, APIRoute) and route.body_field]
    forms = [route for route in routes if route.body_field and isinstance(route.body_field.field_info, params.Form)]

    assert [route.name for route in forms] == ["login"]
    assert all(isinstance(route, FormRoute) for route in forms)
