"""Calls of MCP tools that a server answers badly: whether the model hears that the tool may have acted."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from langchain_core.tools import ToolException
from mesh_agent.sdk.tool import UnknownOutcomeError
from mesh_agent.tool_server_settings import McpServerSettings
from mesh_agent.tools.call import CallIdentity, calling
from mesh_agent.tools.mcp.calls import McpCall
from mesh_common.ids import RunId, ThreadId, new_id
from support.subjects import some_subject
from support.tool_servers import server_of

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:x\n\r\n"
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
IDENTITY = CallIdentity("run:1:0", some_subject(), RunId(new_id()), ThreadId(new_id()))
THE_TOOL = {"name": "act", "inputSchema": {"type": "object"}}


def http(status: str, body: bytes, *headers: str) -> bytes:
    fields = [f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode() + body


def rpc(request: dict[str, Any], **answer: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode()


def answer_to(request: dict[str, Any], kind: str) -> bytes:  # noqa: PLR0911 - one answer for each kind
    """What the server writes before it closes the connection."""
    match request.get("method"), kind:
        case "initialize", _:
            return http("200 OK", rpc(request, result=HELLO))
        case "tools/list", _:
            return http("200 OK", rpc(request, result={"tools": [THE_TOOL]}))
        case "tools/call", "events end":
            return EVENTS
        case "tools/call", "status 500":
            return http("500 Internal Server Error", b"{}")
        case "tools/call", "no JSON":
            return http("200 OK", b"<html>")
        case "tools/call", "packed":
            body = gzip.compress(rpc(request, result={"content": [{"type": "text", "text": "x" * 9_000_000}]}))
            return http("200 OK", body, "Content-Encoding: gzip")
        case "tools/call", "nothing":
            return b""
        case "tools/call", code:
            return http("200 OK", rpc(request, error={"code": int(code), "message": "no tea"}))
        case _ if "id" in request:
            return http("200 OK", rpc(request, error={"code": -32601, "message": "no method"}))
        case _:
            return http("202 Accepted", b"")


@asynccontextmanager
async def a_server(kind: str) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
        writer.write(answer_to(json.loads(body), kind) if body else http("405 Method Not Allowed", b""))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


async def error_of_call(kind: str) -> ToolException:
    async with a_server(kind) as url, asyncio.timeout(20):
        call = McpCall(server_of(McpServerSettings.model_validate({"name": "s", "url": url})), "act")
        with calling(IDENTITY), pytest.raises(ToolException) as raised:
            await call({})
    return raised.value


@pytest.mark.parametrize("kind", ["events end", "status 500", "no JSON", "packed", "nothing", "-32603", "-32000"])
async def test_tool_may_have_acted_when_its_answer_does_not_say(kind: str) -> None:
    assert isinstance(await error_of_call(kind), UnknownOutcomeError)


@pytest.mark.parametrize("code", ["-32601", "-32602"])
async def test_tool_did_not_act_when_the_server_refuses_the_request(code: str) -> None:
    error = await error_of_call(code)

    assert not isinstance(error, UnknownOutcomeError)
    assert str(error) == "The tool refused: no tea"
