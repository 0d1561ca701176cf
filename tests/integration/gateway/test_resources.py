"""Threads, runs, memories, models, usage, scores: each once as its owner and once as another user."""

from http import HTTPStatus

import pytest
from mesh_common.ids import new_id
from support.gateway import Client


async def _thread(gateway: Client, user: dict[str, str], title: str = "Plans") -> str:
    body = {"title": title, "metadata": {"project": "atlas"}}
    created = await gateway.http.post("/api/v1/threads", json=body, headers=user)
    assert created.status_code == HTTPStatus.CREATED
    return str(created.json()["id"])


async def _memory(gateway: Client, user: dict[str, str], text: str = "Likes tea") -> str:
    created = await gateway.http.post("/api/v1/memories", json={"text": text}, headers=user)
    assert created.status_code == HTTPStatus.CREATED
    return str(created.json()["id"])


async def test_thread_lives_and_dies(gateway: Client) -> None:
    user = gateway.as_user()
    path = f"/api/v1/threads/{await _thread(gateway, user)}"

    renamed = await gateway.http.patch(path, json={"title": "New"}, headers=user)
    emptied = await gateway.http.patch(path, json={"metadata": {}}, headers=user)
    read = await gateway.http.get(path, headers=user)
    messages = await gateway.http.get(f"{path}/messages", headers=user)
    deleted = await gateway.http.delete(path, headers=user)
    read_again = await gateway.http.get(path, headers=user)

    assert (renamed.json()["title"], renamed.json()["metadata"]) == ("New", {"project": "atlas"})
    assert (emptied.json()["title"], emptied.json()["metadata"]) == ("New", {})
    assert read.json()["created_at"].endswith("Z")
    assert messages.json()["items"][0]["role"] == "user"
    assert (deleted.status_code, deleted.content, read_again.status_code) == (204, b"", 404)


async def test_threads_are_listed_in_pages_and_searched(gateway: Client) -> None:
    user = gateway.as_user()
    for title in ("one", "two", "three"):
        await _thread(gateway, user, title)

    page = await gateway.http.get("/api/v1/threads?limit=2", headers=user)
    found = await gateway.http.get("/api/v1/threads?query=thr", headers=user)

    assert (len(page.json()["items"]), page.json()["next_cursor"]) == (2, "next")
    assert [thread["title"] for thread in found.json()["items"]] == ["three"]
    assert found.json()["next_cursor"] is None


@pytest.mark.parametrize(
    ("method", "suffix"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/messages"), ("GET", "/runs"), ("POST", "/fork")],
)
async def test_anothers_thread_is_404(gateway: Client, method: str, suffix: str) -> None:
    thread_id = await _thread(gateway, gateway.as_user())
    body = {"title": "Mine"} if method in {"PATCH", "POST"} else None

    response = await gateway.http.request(
        method, f"/api/v1/threads/{thread_id}{suffix}", json=body, headers=gateway.as_user()
    )

    assert response.status_code == HTTPStatus.NOT_FOUND


async def test_run_is_read_listed_and_cancelled(gateway: Client) -> None:
    user = gateway.as_user()
    answer = (await gateway.http.post("/api/v1/chatbot/chat", json={"message": "Hi"}, headers=user)).json()

    run = await gateway.http.get(f"/api/v1/runs/{answer['run_id']}", headers=user)
    runs = await gateway.http.get(f"/api/v1/threads/{answer['thread_id']}/runs", headers=user)
    cancelled = await gateway.http.post(f"/api/v1/runs/{answer['run_id']}/cancel", headers=user)

    assert run.json()["status"] == "succeeded"
    assert [one["id"] for one in runs.json()["items"]] == [answer["run_id"]]
    assert cancelled.status_code == HTTPStatus.OK


@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("POST", "/cancel"), ("GET", "/events"), ("GET", "/scores")]
)
async def test_anothers_run_is_404(gateway: Client, method: str, suffix: str) -> None:
    body = {"message": "Hi"}
    answer = (await gateway.http.post("/api/v1/chatbot/chat", json=body, headers=gateway.as_user())).json()

    response = await gateway.http.request(method, f"/api/v1/runs/{answer['run_id']}{suffix}", headers=gateway.as_user())

    assert response.status_code == HTTPStatus.NOT_FOUND


async def test_memory_lives_and_dies(gateway: Client) -> None:
    user = gateway.as_user()
    path = f"/api/v1/memories/{await _memory(gateway, user)}"

    changed = await gateway.http.patch(path, json={"text": "Likes coffee"}, headers=user)
    found = await gateway.http.post("/api/v1/memories/search", json={"query": "coffee"}, headers=user)
    listed = await gateway.http.get("/api/v1/memories", headers=user)
    deleted = await gateway.http.delete(path, headers=user)
    read_again = await gateway.http.get(path, headers=user)

    assert (changed.json()["text"], changed.json()["origin"]) == ("Likes coffee", "written")
    assert found.json()["items"][0]["similarity"] == 0.9
    assert len(listed.json()["items"]) == 1
    assert (deleted.status_code, read_again.status_code) == (204, 404)


async def test_all_memories_are_forgotten_at_once(gateway: Client) -> None:
    user = gateway.as_user()
    for text in ("a", "b"):
        await _memory(gateway, user, text)

    forgotten = await gateway.http.delete("/api/v1/memories", headers=user)

    assert forgotten.json() == {"deleted": 2}


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_anothers_memory_is_404(gateway: Client, method: str) -> None:
    memory_id = await _memory(gateway, gateway.as_user())
    body = {"text": "Mine"} if method == "PATCH" else None

    response = await gateway.http.request(method, f"/api/v1/memories/{memory_id}", json=body, headers=gateway.as_user())

    assert response.status_code == HTTPStatus.NOT_FOUND


async def test_models_usage_and_scores(gateway: Client) -> None:
    user = gateway.as_user()
    answer = (await gateway.http.post("/api/v1/chatbot/chat", json={"message": "Hi"}, headers=user)).json()

    models = await gateway.http.get("/api/v1/models", headers=user)
    usage = await gateway.http.get("/api/v1/usage?month=2026-10", headers=user)
    scores = await gateway.http.get(f"/api/v1/runs/{answer['run_id']}/scores", headers=user)
    bad_month = await gateway.http.get("/api/v1/usage?month=2026-13", headers=user)

    assert models.json()["items"][0]["input_usd_per_mtok"] == 0.15
    assert (usage.json()["month"], usage.json()["items"][0]["cost_usd"]) == ("2026-10", 1.5)
    assert [(one["status"], one["value"]) for one in scores.json()["items"]] == [("succeeded", 0.0), ("failed", None)]
    assert bad_month.status_code == HTTPStatus.UNPROCESSABLE_ENTITY


async def test_thread_is_forked_at_a_message(gateway: Client) -> None:
    user, message_id = gateway.as_user(), str(new_id())
    thread_id = await _thread(gateway, user)
    path = f"/api/v1/threads/{thread_id}/fork"

    forked = await gateway.http.post(path, json={"message_id": message_id}, headers=user)
    refused = await gateway.http.post(path, json={"message_id": "first"}, headers=user)

    assert forked.status_code == HTTPStatus.CREATED
    assert forked.json()["metadata"] == {"forked_from": thread_id, "at": message_id}
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY


async def test_fork_waits_for_the_upgrade_of_the_agent(gateway: Client) -> None:
    user = gateway.as_user()
    path = f"/api/v1/threads/{await _thread(gateway, user)}/fork"
    gateway.mesh.agent.knows_interrupts = False

    response = await gateway.http.post(path, json={}, headers=user)

    assert (response.status_code, "Retry-After" in response.headers) == (503, True)
