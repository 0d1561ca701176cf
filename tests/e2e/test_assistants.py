"""Assistants through the whole mesh, over HTTP: made, used, shared with nobody, changed and stopped."""

from http import HTTPStatus

from mesh_dev.stack import Stack
from support.api import User

SPEC = {"instructions": "Answer as a pirate."}
PROMPT = "[[sim:prompt]]"


async def test_assistant_is_made_used_changed_and_stopped(user: User) -> None:
    made = await user.post("/assistants", {"name": "pirate", "spec": SPEC})
    turn = await user.stream("/chatbot/chat/stream", {"message": PROMPT, "assistant": "pirate"})
    changed = await user.http.put(
        "/api/v1/assistants/pirate",
        json={"spec": {"instructions": "Whisper."}},
        headers={"If-Match": made.headers["etag"]},
    )
    late = await user.http.put(
        "/api/v1/assistants/pirate", json={"spec": SPEC}, headers={"If-Match": made.headers["etag"]}
    )
    again = await user.stream("/chatbot/chat/stream", {"message": PROMPT, "thread_id": turn.thread_id})
    run = (await user.get(f"/runs/{again.run_id}")).json()
    thread = (await user.get(f"/threads/{turn.thread_id}")).json()
    stopped = await user.post("/assistants/pirate/disable", {})
    refused = await user.post("/chatbot/chat", {"message": "Hi", "assistant": "pirate"})

    assert made.status_code == HTTPStatus.CREATED
    assert turn.text.startswith("Answer as a pirate.")
    assert (changed.status_code, changed.headers["etag"]) == (HTTPStatus.OK, '"2"')
    assert (late.status_code, late.json()["reason"]) == (HTTPStatus.CONFLICT, "ASSISTANT_CHANGED")
    assert again.text.startswith("Whisper.")
    assert (run["assistant"], run["assistant_version"], thread["assistant"]) == ("pirate", "2", "pirate")
    assert stopped.json()["is_disabled"]
    assert (refused.status_code, refused.json()["reason"]) == (HTTPStatus.CONFLICT, "ASSISTANT_DISABLED")


async def test_stranger_finds_nothing_of_an_assistant(user: User, stranger: User) -> None:
    await user.post("/assistants", {"name": "secret", "spec": SPEC, "visibility": "organisation"})
    url = "/api/v1/assistants/secret"
    answers = [
        await stranger.http.get(url),
        await stranger.http.get(f"{url}/versions"),
        await stranger.http.put(url, json={"spec": SPEC}),
        await stranger.http.put(f"{url}/current", json={"version": "1"}),
        await stranger.http.post(f"{url}/disable"),
        await stranger.http.post(f"{url}/enable"),
        await stranger.http.delete(url),
        await stranger.post("/chatbot/chat", {"message": "Hi", "assistant": "secret"}),
    ]
    names = [one["name"] for one in await stranger.items("/assistants")]

    assert [answer.status_code for answer in answers] == [HTTPStatus.NOT_FOUND] * len(answers)
    assert "secret" not in names
    assert "secret" in [one["name"] for one in await user.items("/assistants")]


async def test_file_of_the_repository_is_an_assistant_that_nobody_changes(user: User, stack: Stack) -> None:
    del stack
    shown = (await user.get("/assistants/proofreader")).json()
    taken = await user.post("/assistants", {"name": "proofreader", "spec": {}})
    disabled = await user.post("/assistants/proofreader/disable", {})

    assert (shown["source"], len(shown["version"])) == ("file", 12)
    assert (taken.status_code, taken.json()["reason"]) == (HTTPStatus.CONFLICT, "ASSISTANT_IN_FILES")
    assert disabled.status_code == HTTPStatus.FORBIDDEN
