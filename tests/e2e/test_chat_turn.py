"""One chat turn, streamed and as one response."""

import time

import pytest
from mesh_common.ids import new_id
from simulator.client import SimulatorAdmin
from support.api import User


async def test_turn_streams_its_events_in_order(user: User) -> None:
    turn = await user.chat("[[sim:tokens=40]] Tell me something.")

    deltas = turn.types.count("message_delta")
    assert deltas >= 1
    assert turn.types == [
        "run_started",
        "memory_recalled",
        *["message_delta"] * deltas,
        "message_completed",
        "run_finished",
    ]
    assert [event.id for event in turn.events] == [f"{turn.run_id}:1:{seq}" for seq in range(1, len(turn.events) + 1)]
    assert [event.fields["seq"] for event in turn.events] == [event.seq for event in turn.events]
    assert [event.fields["type"] for event in turn.events] == turn.types


async def test_text_is_what_the_model_sent(user: User, simulator: SimulatorAdmin) -> None:
    marker = new_id().hex

    turn = await user.chat(f"[[sim:tokens=60]] Say something about {marker}.")

    sent = [
        request
        for request in await simulator.requests()
        if request["body"].get("stream") and marker in str(request["body"])
    ]
    assert [request["reply"] for request in sent] == [turn.text]
    assert turn.first("message_completed")["content"] == turn.text
    assert turn.first("run_finished")["usage"]["output_tokens"] == 60
    assert turn.first("run_finished")["usage"]["cost_usd"] > 0


async def test_answer_of_odd_characters_comes_through_whole(user: User) -> None:
    text = 'Zeilen\n\nund "Zitate", data: 한국어 \\ 🦜 ende'

    turn = await user.chat(f"[[sim:reply={text}]]")

    assert turn.text == text


async def test_first_tokens_come_while_the_model_still_writes(user: User) -> None:
    started = time.monotonic()
    first_delta_after_s = None

    async with user.open_stream("/chatbot/chat/stream", {"message": "[[sim:itl=50]] [[sim:tokens=40]] Go on."}) as (
        _,
        events,
    ):
        async for event in events:
            if event.type == "message_delta" and first_delta_after_s is None:
                first_delta_after_s = time.monotonic() - started
    whole_after_s = time.monotonic() - started

    assert whole_after_s > 1.5
    assert first_delta_after_s is not None
    assert first_delta_after_s < whole_after_s / 2


async def test_stream_says_where_the_run_is_and_forbids_caching(user: User) -> None:
    turn = await user.chat("Hello.")

    run = await user.http.get(turn.headers["location"])
    assert run.json()["id"] == turn.run_id
    assert turn.headers["content-location"] == f"{turn.headers['location']}/events"
    assert turn.headers["content-type"].startswith("text/event-stream")
    assert turn.headers["cache-control"] == "no-store"
    assert turn.headers["x-accel-buffering"] == "no"


async def test_both_messages_are_in_the_thread(user: User) -> None:
    turn = await user.chat("What is up?")

    messages = await user.messages(turn.thread_id)
    assert [(one["role"], one["content"], one["run_id"]) for one in messages] == [
        ("user", "What is up?", turn.run_id),
        ("assistant", turn.text, turn.run_id),
    ]
    assert messages[1]["id"] == turn.first("message_completed")["message_id"]


async def test_second_turn_is_given_the_first(user: User, simulator: SimulatorAdmin) -> None:
    marker = new_id().hex
    first = await user.chat(f"[[sim:reply=Understood {marker}.]] Remember the word.")

    await user.chat(f"What was it? {marker}", thread_id=first.thread_id)

    asked = [
        request["body"]["messages"]
        for request in await simulator.requests()
        if request["body"].get("stream") and f"What was it? {marker}" in str(request["body"])
    ]
    assert [(one["role"], one["content"]) for one in asked[-1] if one["role"] != "system"] == [
        ("user", f"[[sim:reply=Understood {marker}.]] Remember the word."),
        ("assistant", f"Understood {marker}."),
        ("user", f"What was it? {marker}"),
    ]


@pytest.mark.parametrize("path", ["/chatbot/chat", "/threads/{thread_id}/runs/wait"])
async def test_answer_in_one_piece(user: User, path: str) -> None:
    thread_id = await user.new_thread()
    body = {"message": "[[sim:reply=One piece.]]", "thread_id": thread_id}

    response = await user.post(path.format(thread_id=thread_id), body)

    assert response.status_code == 200, response.text
    answer = response.json()
    expected = {"id": "", "role": "assistant", "content": "One piece.", "parsed": None}
    assert answer["message"] | {"id": ""} == expected
    assert answer["thread_id"] == thread_id
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["output_tokens"] > 0
    assert answer["memories"] == []
    run = (await user.get(f"/runs/{answer['run_id']}")).json()
    assert (run["status"], run["message"]["content"]) == ("succeeded", "One piece.")


async def test_events_can_be_read_again_from_any_place(user: User) -> None:
    turn = await user.chat("[[sim:tokens=40]] Again, please.")
    middle = len(turn.events) // 2

    async with user.http.stream(
        "GET", f"/api/v1/runs/{turn.run_id}/events", headers={"last-event-id": turn.events[middle].id}
    ) as response:
        ids = [line.removeprefix("id: ") async for line in response.aiter_lines() if line.startswith("id: ")]

    assert ids == [event.id for event in turn.events[middle + 1 :]]
