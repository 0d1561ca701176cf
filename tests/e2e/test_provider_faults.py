"""A failing model provider: retries, then the next model, then a clear error. The thread stays consistent."""

from collections.abc import Mapping
from typing import Any

import pytest
from mesh_common.ids import new_id
from simulator.client import SimulatorAdmin
from support.api import Turn, User

LARGE, SMALL = "sim-large", "sim-small"


def failing(marker: str, fault: str, model: str | None = None, **action: Any) -> Mapping[str, Any]:
    """A rule by which chats that contain the marker fail, with one model or with all."""
    match = {"contains": marker, "structured": False} | ({"model": model} if model else {})
    return {"match": match, "action": {"fault": fault, **action}}


@pytest.fixture
async def marker(user: User) -> str:
    # Resets the breakers, which the previous test may have nearly opened.
    for model in (LARGE, SMALL):
        await user.stream("/chatbot/chat/stream", {"message": "Hello.", "model": model})
    return new_id().hex


async def asked(simulator: SimulatorAdmin, marker: str) -> list[str]:
    """The models that were called for the message with the marker, in order."""
    requests = await simulator.requests()
    return [one["model"] for one in requests if one["body"].get("stream") and marker in str(one["body"])]


async def test_fault_that_passes_is_tried_again(user: User, simulator: SimulatorAdmin, marker: str) -> None:
    rule = failing(marker, "503")
    await simulator.put_rules([{**rule, "match": {**rule["match"], "times": 2}}])

    turn = await user.chat(f"Hello {marker}")

    assert turn.last.type == "run_finished"
    assert await asked(simulator, marker) == [LARGE] * 3
    assert turn.first("message_completed")["model"] == LARGE


@pytest.mark.parametrize("fault", ["429", "500", "503", "hang"])
async def test_model_that_is_down_is_replaced_by_the_next(
    user: User, simulator: SimulatorAdmin, marker: str, fault: str
) -> None:
    await simulator.put_rules([failing(marker, fault, LARGE)])

    turn = await user.chat(f"Hello {marker}")

    assert turn.last.type == "run_finished"
    assert turn.first("message_completed")["model"] == SMALL
    # A silent model is not waited for again.
    tries = 1 if fault == "hang" else 3
    assert await asked(simulator, marker) == [LARGE] * tries + [SMALL]
    assert turn.text == (await user.messages(turn.thread_id))[-1]["content"]


@pytest.mark.parametrize("fault", ["cut", "end_early", "garbage"])
async def test_stream_cut_before_its_first_token_is_replaced_too(
    user: User, simulator: SimulatorAdmin, marker: str, fault: str
) -> None:
    await simulator.put_rules([failing(marker, fault, LARGE, after_tokens=0)])

    turn = await user.chat(f"Hello {marker}")

    assert turn.last.type == "run_finished"
    assert turn.first("message_completed")["model"] == SMALL


@pytest.mark.parametrize("fault", ["cut", "end_early", "garbage", "hang"])
async def test_stream_cut_in_the_middle_fails_the_run_and_mixes_no_answers(
    user: User, simulator: SimulatorAdmin, marker: str, fault: str
) -> None:
    await simulator.put_rules([failing(marker, fault, after_tokens=5)])

    turn = await user.chat(f"Hello {marker}")

    require_one_honest_end(turn)
    assert await asked(simulator, marker) == [LARGE]
    assert len(turn.text.split()) == 5
    question, answer = await user.messages(turn.thread_id)
    assert question["content"] == f"Hello {marker}"
    assert (answer["content"], answer["is_partial"]) == (turn.text, True)


async def test_no_model_left_fails_the_run_and_the_thread_goes_on(
    user: User, simulator: SimulatorAdmin, marker: str
) -> None:
    await simulator.put_rules([failing(marker, "500")])
    failed = await user.chat(f"Hello {marker}")

    await simulator.clear_rules()
    again = await user.chat("And now?", thread_id=failed.thread_id)

    require_one_honest_end(failed)
    assert await asked(simulator, marker) == [LARGE] * 3 + [SMALL] * 3 + [LARGE]
    assert failed.text == ""
    assert again.last.type == "run_finished"
    contents = [message["content"] for message in await user.messages(failed.thread_id)]
    assert contents == [f"Hello {marker}", "And now?", again.text]


async def test_answer_in_one_piece_tells_the_failure_as_a_problem(
    user: User, simulator: SimulatorAdmin, marker: str
) -> None:
    await simulator.put_rules([failing(marker, "500")])

    response = await user.post("/chatbot/chat", {"message": f"Hello {marker}"})

    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) >= 1
    problem = response.json()
    run = (await user.get(f"/runs/{problem['run_id']}")).json()
    assert run["status"] == "failed"
    assert run["error"]["reason"] == problem["reason"]


async def test_chosen_model_is_asked_first(user: User, simulator: SimulatorAdmin, marker: str) -> None:
    turn = await user.stream("/chatbot/chat/stream", {"message": f"Hello {marker}", "model": SMALL})

    assert turn.first("message_completed")["model"] == SMALL
    assert await asked(simulator, marker) == [SMALL]


def require_one_honest_end(turn: Turn) -> None:
    assert [kind for kind in turn.types if kind.startswith("run_") and kind != "run_started"] == ["run_failed"]
    assert turn.last.type == "run_failed"
    assert turn.last.fields["reason"]
    assert turn.last.fields["detail"]
    assert turn.last.fields["retryable"] is True
    assert "message_completed" not in turn.types
