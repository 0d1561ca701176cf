"""One user of the mesh who knows both gateways and records everything they see."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

import httpx
from mesh_common.ids import new_id
from mesh_dev.mesh_client import API, Event, MeshClient, events_of

from chaos.history import Call, History, Order, Outcome, Seen, Stream

PASSWORD: Final = "violet harbour lantern 27"
# After this time without an event, the client tries the other gateway.
SILENCE_S: Final = 4.0
# Longer than the longest back-off of a channel after a fault.
_SERVED_WITHIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request: the JSON of the answer, or the stream that was read."""

    call: Call
    body: Any = None
    stream: Stream | None = None


class ChaosUser:
    """Every request returns an answer or `unknown`; none raises because of a fault in the mesh."""

    def __init__(self, name: str, clients: tuple[MeshClient, ...], history: History) -> None:
        self.name = name
        self.clients = clients
        self.history = history
        self.thread_ids: list[str] = []
        self.run_ids: list[str] = []

    @classmethod
    async def register(
        cls,
        opened: AsyncExitStack,
        urls: tuple[str, ...],
        name: str,
        history: History,
        silence_s: float = SILENCE_S,
    ) -> Self:
        """Creates an account after the last fault, which may still have its effects. The clients are closed with
        `opened`."""
        clients = [await opened.enter_async_context(MeshClient(url)) for url in urls]
        email = f"{new_id().hex}@example.com"
        # 409: the account was created by a try that was answered with 503.
        await _once_served(lambda: clients[0].register(email, PASSWORD), also=httpx.codes.CONFLICT)
        token = (await _once_served(lambda: clients[0].login(email, PASSWORD))).json()["access_token"]
        for client in clients:
            client.use_token(token)
            client.http.timeout = httpx.Timeout(silence_s)
        return cls(name, tuple(clients), history)

    async def post_stream(self, order: Order, gateway: int, leave_after: int | None = None) -> Answer:
        """Starts a run and reads its events: all, the first `leave_after`, or until the stream is cut.

        The answer has the stream if the run was acknowledged.
        """
        path, body = _request_of(order)
        started_s = time.monotonic()
        stream: Stream | None = None
        try:
            async with self.clients[gateway].open_stream(path, body, Idempotency_Key=order.key) as (response, events):
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    return self._answered("start", response, gateway, started_s, key=order.key)
                run_id = response.headers["location"].rpartition("/")[2]
                answer = self._answered("start", response, gateway, started_s, key=order.key, run_id=run_id)
                self.run_ids.append(run_id)
                stream = self._new_stream(run_id, gateway)
                await self._read(events, stream, leave_after)
                return Answer(answer.call, stream=stream)
        except httpx.HTTPError as error:
            if stream is None:
                return self._unanswered("start", error, gateway, started_s, key=order.key)
            stream.is_cut = True
            return Answer(self._last_call(order.key), stream=stream)

    async def post_background(self, order: Order, gateway: int) -> Answer:
        """Starts a run on a thread and does not follow it."""
        body = _request_of(order)[1]
        path = f"{API}/threads/{order.thread_id}/runs"
        headers = {"Idempotency-Key": order.key}
        answer = await self.request("start", "POST", path, gateway, json=body, headers=headers, key=order.key)
        if answer.call.outcome == "ok":
            self.run_ids.append(answer.call.run_id)
        return answer

    async def follow(
        self,
        run_id: str,
        gateway: int,
        after: tuple[int, int] | None = None,
        *,
        is_replay: bool = False,
    ) -> Answer:
        """Reads one stream of a run's events; the answer has it unless it was refused."""
        headers = {"Last-Event-ID": f"{run_id}:{after[0]}:{after[1]}"} if after else {}
        started_s = time.monotonic()
        stream: Stream | None = None
        try:
            async with self.clients[gateway].http.stream(
                "GET", f"{API}/runs/{run_id}/events", headers=headers
            ) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    return self._answered("follow", response, gateway, started_s, run_id=run_id)
                answer = self._answered("follow", response, gateway, started_s, run_id=run_id)
                stream = self._new_stream(run_id, gateway, after, is_replay=is_replay)
                await self._read(events_of(response), stream)
                return Answer(answer.call, stream=stream)
        except httpx.HTTPError as error:
            if stream is not None:
                stream.is_cut = True
            return Answer(self._unanswered("follow", error, gateway, started_s, run_id=run_id).call, stream=stream)

    async def request(self, kind: str, method: str, path: str, gateway: int, **arguments: Any) -> Answer:
        """A request whose answer is JSON, the body. `key`, `run_id` and `thread_id` are for the history."""
        about = {name: arguments.pop(name) for name in ("key", "run_id", "thread_id") if name in arguments}
        started_s = time.monotonic()
        try:
            response = await self.clients[gateway].http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            return self._unanswered(kind, error, gateway, started_s, **about)
        return self._answered(kind, response, gateway, started_s, **about)

    async def _read(self, events: AsyncIterator[Event], stream: Stream, leave_after: int | None = None) -> None:
        async for event in events:
            _, attempt, seq = event.id.split(":")
            stream.events.append(
                Seen(
                    run_id=event.run_id,
                    attempt=int(attempt),
                    seq=int(seq),
                    type=event.type,
                    fields=event.fields,
                    at_s=time.monotonic(),
                )
            )
            thread_id = event.fields.get("thread_id")
            if thread_id and thread_id not in self.thread_ids:
                self.thread_ids.append(thread_id)
            if leave_after is not None and len(stream.events) >= leave_after:
                stream.is_cut = True
                return

    def _new_stream(
        self, run_id: str, gateway: int, after: tuple[int, int] | None = None, *, is_replay: bool = False
    ) -> Stream:
        stream = Stream(user=self.name, run_id=run_id, gateway=_name(gateway), after=after, is_replay=is_replay)
        self.history.streams.append(stream)
        return stream

    def _answered(self, kind: str, response: httpx.Response, gateway: int, started_s: float, **about: str) -> Answer:
        # The mesh always answers in JSON; a proxy in front of it may answer in plain text.
        is_json = response.headers.get("content-type", "").endswith("json")
        body = response.json() if is_json and response.content else None
        found = body if isinstance(body, dict) else {}
        if response.is_success and kind == "start" and "run_id" not in about:
            about["run_id"] = str(found["run_id"])
        if response.is_success and kind == "cancel":
            about["run_status"] = str(found["status"])
        reason = "" if response.is_success else str(found.get("reason", ""))
        return self._note(kind, gateway, started_s, response.status_code, reason, about, body)

    def _unanswered(self, kind: str, error: httpx.HTTPError, gateway: int, started_s: float, **about: str) -> Answer:
        return self._note(kind, gateway, started_s, 0, type(error).__name__, about)

    def _note(
        self,
        kind: str,
        gateway: int,
        started_s: float,
        status: int,
        reason: str,
        about: Mapping[str, str],
        body: object = None,
    ) -> Answer:
        call = Call(
            user=self.name,
            kind=kind,
            outcome=_outcome(status),
            gateway=_name(gateway),
            started_s=started_s,
            ended_s=time.monotonic(),
            status=status,
            reason=reason,
            key=about.get("key", ""),
            run_id=about.get("run_id", ""),
            thread_id=about.get("thread_id", ""),
            run_status=about.get("run_status", ""),
        )
        self.history.calls.append(call)
        return Answer(call, body)

    def _last_call(self, key: str) -> Call:
        return next(call for call in reversed(self.history.calls) if call.key == key and call.outcome == "ok")


def last_position(stream: Stream) -> tuple[int, int] | None:
    """The position after which to continue."""
    return (stream.events[-1].attempt, stream.events[-1].seq) if stream.events else stream.after


def is_finished(stream: Stream) -> bool:
    return bool(stream.events) and stream.events[-1].is_terminal


def _request_of(order: Order) -> tuple[str, Mapping[str, Any]]:
    body: dict[str, Any] = {"message": order.message}
    if order.thread_id is None:
        return "/chatbot/chat/stream", body
    options = {"multitask": order.multitask, "on_disconnect": order.on_disconnect}
    return f"/threads/{order.thread_id}/runs/stream", body | options


def _outcome(status: int) -> Outcome:
    if not status:
        return "unknown"
    if status < httpx.codes.BAD_REQUEST:
        return "ok"
    return "fail" if status < httpx.codes.INTERNAL_SERVER_ERROR else "unknown"


def _name(gateway: int) -> str:
    return f"gateway-{gateway + 1}"


async def _once_served(send: Callable[[], Awaitable[httpx.Response]], also: int | None = None) -> httpx.Response:
    """The response of success, or with the status `also`. Repeats the request while it is refused with 503."""
    async with asyncio.timeout(_SERVED_WITHIN_S):
        while True:
            response = await send()
            if response.status_code == also:
                return response
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return response.raise_for_status()
            await asyncio.sleep(float(response.headers["retry-after"]))
