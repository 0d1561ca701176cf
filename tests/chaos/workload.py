"""The users' actions in a schedule: each step is drawn from the user's seed, and everything seen is recorded."""

import asyncio
import random
import time
from dataclasses import dataclass, replace
from typing import Final

import httpx
from mesh_dev.mesh_client import API

from chaos.client import ChaosUser, is_finished, last_position
from chaos.history import Order, Stream
from chaos.orders import make_order

# Between two attempts of the same operation, the second at the other gateway.
_RETRY_PAUSE_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Until:
    """New work starts only before `load_ends_s`; work in progress is abandoned at `give_up_s` (monotonic times)."""

    load_ends_s: float
    give_up_s: float

    @property
    def has_time(self) -> bool:
        return time.monotonic() < self.give_up_s


class Actor:
    def __init__(self, user: ChaosUser, victim: ChaosUser, rng: random.Random, until: Until) -> None:
        """`victim` is another user, whose data this one tries to access."""
        self._user = user
        self._victim = victim
        self._rng = rng
        self._until = until
        # The weight of each step.
        self._steps = {
            self.chat: 6,
            self.send_twice: 3,
            self.follow_twice: 3,
            self.leave_and_resume: 4,
            self.cancel: 4,
            self.pile_up: 3,
            self.disconnect: 2,
            self.start_in_background: 3,
            self.intrude: 3,
        }

    async def act(self) -> None:
        while time.monotonic() < self._until.load_ends_s:
            [step] = self._rng.choices(tuple(self._steps), tuple(self._steps.values()))
            await step()
            await asyncio.sleep(self._rng.uniform(0.0, 0.2))

    async def chat(self) -> None:
        await self.run_to_end(self._order(), self._any_gateway())

    async def send_twice(self) -> None:
        """Sends a request to both gateways concurrently; sometimes with `reject`, which must not reject its own run."""
        thread_id = await self._thread() if self._rng.random() < 0.5 else None
        order = self._order(thread_id, multitask="reject" if thread_id else "enqueue")
        async with asyncio.TaskGroup() as group:
            for gateway in range(len(self._user.clients)):
                group.create_task(self.run_to_end(order, gateway))

    async def follow_twice(self) -> None:
        order, gateway = self._order(), self._any_gateway()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.run_to_end(order, gateway))
            if run_id := await self._acknowledged(order):
                group.create_task(self._follow_to_end(run_id, 1 - gateway, None))

    async def leave_and_resume(self) -> None:
        """Disconnects after some events and resumes at the other gateway with the id of the last one."""
        await self.run_to_end(self._order(), self._any_gateway(), leave_after=self._rng.randrange(1, 8))

    async def cancel(self) -> None:
        order, gateway = self._order(), self._any_gateway()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.run_to_end(order, gateway))
            if run_id := await self._acknowledged(order):
                await asyncio.sleep(self._rng.uniform(0.0, 0.8))
                group.create_task(self._cancel_run(run_id, self._any_gateway()))

    async def pile_up(self) -> None:
        """Sends more inputs to a busy thread, with every multitask strategy."""
        thread_id = await self._thread()
        if thread_id is None:
            return
        gateway = self._any_gateway()
        async with asyncio.TaskGroup() as group:
            for multitask in ("enqueue", *self._rng.choices(("enqueue", "reject", "interrupt"), k=2)):
                order = self._order(thread_id, multitask=multitask)
                group.create_task(self.run_to_end(order, gateway))
                await asyncio.sleep(self._rng.uniform(0.0, 0.3))
                gateway = self._any_gateway()

    async def disconnect(self) -> None:
        thread_id = await self._thread()
        if thread_id is None:
            return
        order = self._order(thread_id, on_disconnect="cancel")
        leave_after = self._rng.randrange(1, 8)
        await self.run_to_end(order, self._any_gateway(), leave_after=leave_after)

    async def start_in_background(self) -> None:
        thread_id = await self._thread()
        if thread_id is None:
            return
        order, gateway = self._order(thread_id), self._any_gateway()
        while self._until.has_time:
            answer = await self._user.post_background(order, gateway)
            if answer.call.outcome == "fail":
                return
            gateway = 1 - gateway
            if answer.call.outcome == "ok":
                await self._follow_to_end(answer.call.run_id, gateway, None)
                return
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def intrude(self) -> None:
        """Tries to read or stop everything of another user."""
        gateway = self._any_gateway()
        tries: list[tuple[str, str, dict[str, str]]] = []
        if self._victim.run_ids:
            run_id = self._rng.choice(self._victim.run_ids)
            about = {"run_id": run_id}
            tries += [("GET", f"/runs/{run_id}", about), ("POST", f"/runs/{run_id}/cancel", about)]
            tries += [("GET", f"/runs/{run_id}/events", about)]
        if self._victim.thread_ids:
            thread_id = self._rng.choice(self._victim.thread_ids)
            about = {"thread_id": thread_id}
            tries += [("GET", f"/threads/{thread_id}{part}", about) for part in ("", "/messages", "/runs")]
            tries += [("DELETE", f"/threads/{thread_id}", about)]
        for method, path, about in tries:
            await self._user.request("stranger", method, API + path, gateway, **about)

    async def run_to_end(self, order: Order, gateway: int, *, leave_after: int | None = None) -> None:
        """Repeats the request with one key until the run is acknowledged or refused; then follows it to its end."""
        while self._until.has_time:
            answer = await self._user.post_stream(order, gateway, leave_after)
            if answer.call.outcome == "fail":
                return
            gateway = 1 - gateway
            if answer.stream is not None:
                await self._follow_to_end(answer.stream.run_id, gateway, answer.stream)
                return
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def _follow_to_end(self, run_id: str, gateway: int, stream: Stream | None) -> None:
        """Continues after the end of `stream`, at alternating gateways, until the run has ended."""
        after = last_position(stream) if stream else None
        while self._until.has_time and not (stream and is_finished(stream)):
            answer = await self._user.follow(run_id, gateway, after)
            if answer.call.outcome == "fail" or answer.call.status == httpx.codes.NO_CONTENT:
                return
            gateway = 1 - gateway
            if answer.stream is None or answer.stream.is_cut or not answer.stream.events:
                await asyncio.sleep(_RETRY_PAUSE_S)
            if answer.stream is not None:
                stream = answer.stream
                after = last_position(answer.stream)

    async def _cancel_run(self, run_id: str, gateway: int) -> None:
        for _ in range(2):
            path = f"{API}/runs/{run_id}/cancel"
            answer = await self._user.request("cancel", "POST", path, gateway, run_id=run_id)
            if answer.call.outcome != "unknown":
                return
            gateway = 1 - gateway

    async def _thread(self) -> str | None:
        """An existing thread or a new one; None if that fails."""
        if self._user.thread_ids and self._rng.random() < 0.5:
            return self._rng.choice(self._user.thread_ids)
        answer = await self._user.request("create_thread", "POST", f"{API}/threads", self._any_gateway(), json={})
        if answer.call.outcome != "ok":
            return None
        thread_id = str(answer.body["id"])
        self._user.thread_ids.append(thread_id)
        return thread_id

    async def _acknowledged(self, order: Order) -> str | None:
        """The run of an order sent by another task; None if it was refused or takes too long."""
        while self._until.has_time:
            calls = [call for call in self._user.history.calls if call.key == order.key]
            found = next((call.run_id for call in calls if call.outcome == "ok"), None)
            if found or any(call.outcome == "fail" for call in calls):
                return found
            await asyncio.sleep(0.02)
        return None

    def _order(
        self, thread_id: str | None = None, *, multitask: str = "enqueue", on_disconnect: str = "continue"
    ) -> Order:
        if thread_id is None and self._user.thread_ids and self._rng.random() < 0.5:
            thread_id = self._rng.choice(self._user.thread_ids)
        made = make_order(self._rng, self._user.name, thread_id)
        order = replace(made, multitask=multitask, on_disconnect=on_disconnect)
        self._user.history.orders.append(order)
        return order

    def _any_gateway(self) -> int:
        return self._rng.randrange(len(self._user.clients))
