"""A graph of one step, which calls the provider and emits its text in windows of a tenth of a second."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

import aiohttp
import orjson
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

_WINDOW_S: Final = 0.1
# Windows end together, as in the mesh when it is busy.
_TICK_S: Final = 0.025


class State(TypedDict):
    answer: str


@dataclass(frozen=True, slots=True)
class Turn:
    session: aiohttp.ClientSession
    url: str
    messages: Sequence[dict[str, str]]
    emit: Callable[[str], None]


type Graph = CompiledStateGraph[State, Turn, State, State]


def build_graph() -> Graph:
    builder: StateGraph[State, Turn, State, State] = StateGraph(State, context_schema=Turn)
    builder.add_node("model", _model)
    builder.add_edge(START, "model")
    builder.add_edge("model", END)
    return builder.compile()


async def _model(state: State, runtime: Runtime[Turn]) -> State:
    del state
    turn = runtime.context
    body = orjson.dumps({"model": "sim-large", "stream": True, "messages": turn.messages})
    parts: list[str] = []
    rest = b""
    async with turn.session.post(turn.url, data=body) as response:
        has_ended = asyncio.Event()
        response.content.on_eof(has_ended.set)
        async for data in response.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            if text := "".join(map(_text, lines)):
                parts.append(text)
                turn.emit(text)
            if parts and not has_ended.is_set():
                await _until_window_ends(response)
    return {"answer": "".join(parts)}


def _text(line: bytes) -> str:
    data = line.removeprefix(b"data:").strip()
    if not data or data == b"[DONE]":
        return ""
    choices = orjson.loads(data)["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""


async def _until_window_ends(response: aiohttp.ClientResponse) -> None:
    """Pauses reading until the window ends. Data stays in the kernel meanwhile and causes no wake-ups."""
    now_s = asyncio.get_running_loop().time()
    transport = response.connection.transport if response.connection else None
    if transport:
        transport.pause_reading()
    await asyncio.sleep((now_s + _WINDOW_S) // _TICK_S * _TICK_S - now_s)
    if transport and not transport.is_closing():
        transport.resume_reading()
