"""What a turn leaves: memories for later threads, scores of the run."""

from typing import Any

from mesh_common.ids import new_id
from simulator.client import SimulatorAdmin
from support.api import User, eventually

METRICS = ["conciseness", "hallucination", "helpfulness", "relevancy", "toxicity"]


async def test_second_thread_recalls_what_the_first_was_told(user: User, simulator: SimulatorAdmin) -> None:
    marker = new_id().hex
    first = await user.chat(f"My favourite colour is blue {marker}. How are you?")
    await eventually("the memory", user.memories, lambda texts: len(texts) > 0)

    second = await user.chat("What is my favourite colour?")

    assert second.thread_id != first.thread_id
    assert second.memories == [f"My favourite colour is blue {marker}."]
    prompts = [
        str(request["body"]["messages"]) for request in await simulator.requests() if request["body"].get("stream")
    ]
    assert [marker in prompt for prompt in prompts if "What is my favourite colour?" in prompt][-1]


async def test_memory_knows_its_run_and_can_be_forgotten(user: User) -> None:
    turn = await user.chat("I play the cello on Sundays.")
    kept = await eventually("the memory", lambda: user.items("/memories"), lambda items: len(items) > 0)

    deleted = await user.delete(f"/memories/{kept[0]['id']}")

    assert (kept[0]["run_id"], kept[0]["origin"]) == (turn.run_id, "extracted")
    assert deleted.status_code == 204
    assert await user.memories() == []
    assert (await user.chat("What do I play on Sundays?")).memories == []


async def test_same_fact_is_kept_once(user: User) -> None:
    await user.chat("I was born in Lisbon.")
    await eventually("the memory", user.memories, lambda texts: len(texts) == 1)

    await user.chat("I was born in Lisbon. My dog is called Rex.")

    texts = await eventually("the second fact", user.memories, lambda texts: len(texts) > 1)
    assert sorted(texts) == ["I was born in Lisbon.", "My dog is called Rex."]


async def test_every_metric_is_scored(user: User) -> None:
    turn = await user.chat("What is a mesh?")

    async def scores() -> Any:
        return (await user.get(f"/runs/{turn.run_id}/scores")).json()

    judged = await eventually("the scores", scores, lambda found: found["items"] and not found["is_pending"])
    assert [score["name"] for score in judged["items"]] == METRICS
    for score in judged["items"]:
        assert score["status"] == "succeeded"
        assert 0 <= score["value"] <= 1
        assert score["reasoning"]
        assert score["judge_model"] == "sim-small"
        assert len(score["prompt_hash"]) == 64


async def test_judge_without_valid_answer_gives_a_failed_score_and_no_number(
    user: User, simulator: SimulatorAdmin
) -> None:
    marker = new_id().hex
    await simulator.put_rules(
        [{"match": {"structured": True, "anywhere": marker}, "action": {"reply": "I would rather not say."}}]
    )
    turn = await user.chat(f"[[sim:reply=Judge this {marker}.]] Hello {marker}.")

    async def scores() -> Any:
        return (await user.get(f"/runs/{turn.run_id}/scores")).json()

    judged = await eventually("the scores", scores, lambda found: found["items"] and not found["is_pending"])
    assert [(score["status"], score["value"]) for score in judged["items"]] == [("failed", None)] * len(METRICS)


async def test_usage_of_the_month_arrives_at_auth(user: User) -> None:
    turn = await user.chat("[[sim:tokens=30]] Count me.")

    async def usage() -> Any:
        return (await user.get("/usage")).json()

    month = await eventually("the usage", usage, lambda found: len(found["items"]) > 0)
    reported = turn.first("run_finished")["usage"]
    assert [(one["runs"], one["input_tokens"], one["output_tokens"]) for one in month["items"]] == [
        (1, reported["input_tokens"], reported["output_tokens"])
    ]
