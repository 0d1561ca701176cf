"""Reads an OpenAPI document: JSON or YAML, from a file or from a URL of the operator."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import yaml
from yarl import URL

from mesh_agent.tool_server_settings import OpenApiSettings
from mesh_agent.tools.oauth import TokenError
from mesh_agent.tools.server_access import ServerAccess

# The largest public documents, of clouds and of GitHub, have about this size.
_MAX_BYTES: Final = 16_777_216
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30.0)


class DocumentError(Exception):
    """The document cannot be used. The text is for the operator."""


async def read_document(
    settings: OpenApiSettings, session: aiohttp.ClientSession, access: ServerAccess
) -> Mapping[str, Any]:
    """Raises DocumentError."""
    data = await _fetched(settings, session, access) if is_remote(settings) else await _read(settings.document)
    if len(data) > _MAX_BYTES:
        raise DocumentError(f"is longer than {_MAX_BYTES:,} bytes")
    # Parsing a megabyte of YAML takes seconds.
    content = await asyncio.to_thread(_parsed, data)
    if not isinstance(content, dict) or not isinstance(content.get("paths"), dict):
        raise DocumentError("is no OpenAPI document: it has no `paths`")
    if not str(content.get("openapi", "")).startswith("3."):
        raise DocumentError("is not of OpenAPI 3")
    return content


def is_remote(settings: OpenApiSettings) -> bool:
    return settings.document.startswith(("http://", "https://"))


async def _read(path: str) -> bytes:
    def read() -> bytes:
        with Path(path).open("rb") as file:
            return file.read(_MAX_BYTES + 1)

    try:
        return await asyncio.to_thread(read)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}") from error


async def _fetched(settings: OpenApiSettings, session: aiohttp.ClientSession, access: ServerAccess) -> bytes:
    try:
        async with session.get(
            URL(settings.document), headers=await access.headers(), timeout=_TIMEOUT, allow_redirects=False
        ) as response:
            if response.status != 200:  # noqa: PLR2004 - OK
                raise DocumentError(f"cannot be fetched: status {response.status}")
            data = b""
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > _MAX_BYTES:
                    break
            return data
    except (aiohttp.ClientError, TimeoutError, TokenError, ValueError) as error:
        raise DocumentError(f"cannot be fetched: {type(error).__name__}") from error


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _parsed_yaml(data)


def _parsed_yaml(data: bytes) -> Any:
    try:
        text = data.decode("utf-8-sig")
        # Aliases can make a small text an endless document.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise DocumentError("contains a YAML alias (*), which is not allowed")
        return yaml.safe_load(text)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise DocumentError(f"is neither JSON nor YAML: {type(error).__name__}") from error
