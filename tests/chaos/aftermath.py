"""Reads the state after a schedule: every thread, message and run of each user, and each run's events once more."""

import asyncio
import time
from typing import Any, Final

from mesh_dev.mesh_client import API

from chaos.client import ChaosUser, is_finished
from chaos.history import StoredMessage, StoredRun

_LOOK_AGAIN_S: Final = 0.15
_UNENDED: Final = frozenset({"pending", "running"})


class NotReadableError(Exception):
    """The mesh is healthy again but still does not answer."""


async def read_aftermath(user: ChaosUser, give_up_s: float) -> None:
    """Waits until all runs have ended, or until the monotonic time `give_up_s`; then records the stored state."""
    gateway = 0
    while True:
        threads = await _items(user, "/threads", give_up_s)
        runs = {thread["id"]: await _items(user, f"/threads/{thread['id']}/runs", give_up_s) for thread in threads}
        unended = [run for found in runs.values() for run in found if run["status"] in _UNENDED]
        if not unended or time.monotonic() >= give_up_s:
            break
        await asyncio.sleep(_LOOK_AGAIN_S)
    for thread_id, found in runs.items():
        for message in await _items(user, f"/threads/{thread_id}/messages", give_up_s):
            user.history.messages.append(_message(user, thread_id, message))
        for listed in reversed(found):
            run = await _get(user, f"/runs/{listed['id']}", give_up_s)
            user.history.runs.append(_run(user, run))
            if run["status"] not in _UNENDED:
                gateway = 1 - gateway
                await _replay(user, run["id"], gateway, give_up_s)


async def _replay(user: ChaosUser, run_id: str, gateway: int, give_up_s: float) -> None:
    while True:
        answer = await user.follow(run_id, gateway, is_replay=True)
        if answer.stream is not None and is_finished(answer.stream):
            return
        if time.monotonic() >= give_up_s:
            return
        if answer.stream is not None:
            # Incomplete: it counts as one more stream that was cut.
            answer.stream.is_replay = False
        gateway = 1 - gateway
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _items(user: ChaosUser, path: str, give_up_s: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, str | int] = {"limit": 100}
    while True:
        page = await _get(user, path, give_up_s, query)
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def _get(
    user: ChaosUser, path: str, give_up_s: float, query: dict[str, str | int] | None = None
) -> dict[str, Any]:
    """Retries at the other gateway, because a replica may still be reconnecting to its callees."""
    gateway = 0
    while True:
        answer = await user.request("read", "GET", API + path, gateway, params=query)
        if answer.call.outcome == "ok":
            body: dict[str, Any] = answer.body
            return body
        if time.monotonic() >= give_up_s:
            raise NotReadableError(f"GET {path}: {answer.call.status} {answer.call.reason}")
        gateway = 1 - gateway
        await asyncio.sleep(_LOOK_AGAIN_S)


def _run(user: ChaosUser, run: dict[str, Any]) -> StoredRun:
    message = run.get("message") or {}
    return StoredRun(
        user=user.name,
        id=run["id"],
        thread_id=run["thread_id"],
        status=run["status"],
        attempt=run["attempt"],
        created_at=run["created_at"],
        started_at=run["started_at"] or "",
        ended_at=run["ended_at"] or "",
        reason=(run.get("error") or {}).get("reason", ""),
        content=message.get("content"),
    )


def _message(user: ChaosUser, thread_id: str, message: dict[str, Any]) -> StoredMessage:
    return StoredMessage(
        user=user.name,
        id=message["id"],
        thread_id=thread_id,
        run_id=message["run_id"],
        role=message["role"],
        content=message["content"],
        is_partial=message["is_partial"],
    )
