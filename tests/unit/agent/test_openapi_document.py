"""OpenAPI documents that cannot be used, and where the API of one is."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mesh_agent.tool_server_settings import OpenApiSettings
from mesh_agent.tools.openapi import document as module
from mesh_agent.tools.openapi.document import DocumentError, read_document
from mesh_agent.tools.openapi.source import base_url
from support.tool_servers import access_to

ALIASES = "openapi: 3.0.0\npaths: &a {}\nx: *a\n"


def _settings(document: str, **more: Any) -> OpenApiSettings:
    return OpenApiSettings(name="shop", document=document, operations=("op",), **more)


async def _read(path: Path, session: aiohttp.ClientSession) -> object:
    settings = _settings(str(path))
    return await read_document(settings, session, access_to(settings))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no `paths`"),
        (b"{", "neither JSON nor YAML"),
        (b"\xff\xfe", "neither JSON nor YAML"),
        (b"[1]", "no `paths`"),
        (b'{"paths": {}}', "not of OpenAPI 3"),
        (b'{"swagger": "2.0", "paths": {}}', "not of OpenAPI 3"),
        (b'{"openapi": "3.1.0", "paths": []}', "no `paths`"),
        (ALIASES.encode(), "alias"),
        (b"a: " + b"[" * 2_000, "neither JSON nor YAML"),
    ],
)
async def test_what_is_no_document_is_named(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "api"
    path.write_bytes(content)

    async with aiohttp.ClientSession() as session:
        with pytest.raises(DocumentError, match=fault):
            await _read(path, session)


async def test_document_that_is_too_long_or_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "api"
    path.write_bytes(b"a" * 11)
    monkeypatch.setattr(module, "_MAX_BYTES", 10)

    async with aiohttp.ClientSession() as session:
        with pytest.raises(DocumentError, match="longer than 10 bytes"):
            await _read(path, session)
        with pytest.raises(DocumentError, match="cannot be read: No such file"):
            await _read(tmp_path / "none", session)


@pytest.mark.parametrize(
    ("servers", "url"),
    [
        ([{"url": "https://shop.example/v1"}], "https://shop.example/v1"),
        ([{"url": "/v2"}], "https://docs.example/v2"),
        ([{"url": "v2"}], "https://docs.example/api/v2"),
        ([{"url": "https://{region}.example", "variables": {"region": {"default": "eu"}}}], "https://eu.example"),
        (None, "https://docs.example/"),
        ([], "https://docs.example/"),
        ([5], "https://docs.example/"),
    ],
)
def test_api_is_at_the_first_server_of_the_document(servers: Any, url: str) -> None:
    assert base_url(_settings("https://docs.example/api/openapi.json"), {"servers": servers}) == url


def test_setting_wins_over_the_servers_and_a_file_needs_an_absolute_one() -> None:
    servers = {"servers": [{"url": "/v1"}]}

    assert base_url(_settings("/etc/api.yaml", url="https://own.example/v3"), servers) == "https://own.example/v3"
    with pytest.raises(DocumentError, match="set `url`"):
        base_url(_settings("/etc/api.yaml"), servers)
