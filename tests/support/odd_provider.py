"""A model server that writes the bytes it is given, and is strict about the requests it reads, as real ones are."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

type Piece = dict[str, Any]
"""`text`, `base64`, `sleep_s`, or how the connection `end`s, as in tests/cases/provider-streams.jsonl.

`hold` keeps the connection open until the client closes it.
"""

PLAIN = "Done."
"""The answer to a request that ends with the result of a tool."""


@dataclass
class OddProvider:
    pieces: Sequence[Piece]
    content_type: str = "text/event-stream"
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """Why requests were refused."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await _read_request(reader)
                self.requests.append(request)
                if not await self._answer(request, reader, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            # The client has closed the connection.
            return
        finally:
            writer.close()

    async def _answer(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Returns whether the connection can be used again."""
        fault = self._fault(request["messages"])
        if fault:
            self.refusals.append(fault)
            body = json.dumps({"error": {"message": fault}}).encode()
            writer.write(_head("400 Bad Request", f"Content-Length: {len(body)}") + body)
            return True
        is_after_tool = request["messages"][-1]["role"] == "tool"
        pieces = _plain_answer() if is_after_tool else self.pieces
        content_type = "text/event-stream" if is_after_tool else self.content_type
        writer.write(_head("200 OK", f"Content-Type: {content_type}\r\nTransfer-Encoding: chunked"))
        for piece in pieces:
            if "end" in piece:
                writer.write(b"5\r\nda")
                await writer.drain()
                return False
            if "hold" in piece:
                await reader.read()
                return False
            await _write(writer, piece)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def _fault(self, messages: list[dict[str, Any]]) -> str:
        faults = [_fault_of_calls(messages[place:]) for place in range(len(messages))]
        sent = json.dumps(self.pieces)
        for message in messages:
            calls = message.get("tool_calls") or []
            if calls and "reasoning_content" in sent and "reasoning_content" not in message:
                faults.append("the reasoning is missing")
            if "thought_signature" in sent and any("extra_content" not in call for call in calls):
                faults.append("a thought signature is missing")
        return "; ".join(filter(None, faults))


def _fault_of_calls(messages: list[dict[str, Any]]) -> str:
    """What a strict server finds wrong with the calls of the first message and with the results that follow it."""
    calls = messages[0].get("tool_calls") or []
    ids = [call["id"] for call in calls]
    answered = [message.get("tool_call_id") for message in messages[1 : 1 + len(calls)]]
    if len(set(ids)) != len(ids) or not all(isinstance(call_id, str) and call_id for call_id in ids):
        return f"the ids {ids} are not unique"
    if sorted(ids) != sorted(filter(None, answered)):
        return f"the calls {ids} are answered by {answered}"
    for call in calls:
        if not isinstance(_json_or_none(call["function"]["arguments"]), dict):
            return f"no JSON object: {call['function']['arguments']!r}"
    return ""


def _json_or_none(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _plain_answer() -> list[Piece]:
    choice = {"index": 0, "delta": {"content": PLAIN}, "finish_reason": "stop"}
    return [{"text": f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n"}]


async def _read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    request: dict[str, Any] = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
    return request


def _head(status: str, headers: str) -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode()


async def _write(writer: asyncio.StreamWriter, piece: Piece) -> None:
    if "sleep_s" in piece:
        await asyncio.sleep(piece["sleep_s"])
        return
    data = base64.b64decode(piece["base64"]) if "base64" in piece else piece["text"].encode("utf-8", "surrogatepass")
    if data:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()


@asynccontextmanager
async def odd_provider(pieces: Sequence[Piece], content_type: str = "text/event-stream") -> AsyncIterator[OddProvider]:
    provider = OddProvider(pieces, content_type)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    try:
        provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield provider
    finally:
        server.close()
        server.close_clients()
        await server.wait_closed()
