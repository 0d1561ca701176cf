"""Run plans: a run keeps its plan to the end, whatever the settings of a replica that takes it over."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import orjson
import pytest
from fakes.agent.neighbours import AWAY, FakeEntitlements
from mesh.agent.v1 import agent_pb2
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.store import plans
from mesh_common.database.postgres import Database
from mesh_common.ids import UserId, new_id
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support.agent import AgentUnderTest, Followed, agent_settings, eventually, running_agent, some_user
from support.mesh import TestMesh
from support.replicas import insert_pending, replica
from support.subjects import personal
from support.tool_server import ToolServer, running_tool_server

STUCK = [{"match": {"times": 1}, "action": {"reply": "one two three", "itl_ms": 20_000}}]
DAY_S = 86_400.0


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


def models(*names: str, **fields: Any) -> str:
    """AGENT_MODELS for these models."""
    entry = {"context_tokens": 8_000, "capabilities": ["tools"], **fields}
    return orjson.dumps([{"name": name, "provider_model": name, **entry} for name in names]).decode()


async def left_in_its_first_answer(
    agent: AgentUnderTest, simulator: SimulatorAdmin, user_id: UserId, message: str, **fields: Any
) -> str:
    """A run that this agent, which is about to be stopped, does not bring beyond its first words."""
    await simulator.put_rules(STUCK)
    async with agent.starting(user_id, message, **fields) as started:
        await started.until("message_delta")
    return started.run_id


@asynccontextmanager
async def heir_of(mesh: TestMesh, model_url: str, fakes: Any = None, **overrides: str) -> AsyncIterator[AgentUnderTest]:
    async with running_agent(mesh, agent_settings(mesh, model_url, **overrides), **(fakes or {})) as heir:
        yield heir


async def ended(agent: AgentUnderTest, user_id: UserId, run_id: str) -> Followed:
    run = await eventually(lambda: agent.get_run(user_id, run_id), lambda run: run.HasField("ended_at"))
    return Followed(run_id, run.thread_id, await agent.follow(user_id, run_id))


def tool_names(request: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in request["body"]["tools"]]


def finished(events: Sequence[agent_pb2.RunEvent]) -> list[agent_pb2.ToolFinished]:
    return [event.tool_finished for event in events if event.HasField("tool_finished")]


async def test_replica_with_other_settings_asks_what_the_first_one_asked(
    own_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin, tool: ToolServer
) -> None:
    """The order and limits of models, the tools and their schemas, and the history."""
    user_id = some_user()
    first_settings = {
        "AGENT_MODELS": models("sim-small", "sim-large", max_output_tokens=77),
        "AGENT_HTTP_TOOLS": tool.as_setting("once", description="Leaves the first mark."),
        "AGENT_HISTORY_TOKENS": "0",
        "AGENT_DRAIN_S": "0.1",
    }
    heirs_settings = {"AGENT_HTTP_TOOLS": tool.as_setting("none", description="Another.", name="other")}
    async with replica(own_mesh, model_url, **first_settings) as first:
        thread_id = (await first.run(user_id, "Before")).thread_id
        run_id = await left_in_its_first_answer(first, simulator, user_id, "Hello", thread_id=thread_id)

    async with replica(own_mesh, model_url, **heirs_settings) as heir:
        turn = await ended(heir, user_id, run_id)

    _, asked, asked_again = await simulator.requests()
    assert turn.last.HasField("run_finished")
    assert asked_again["body"] == asked["body"]
    assert asked_again["model"] == "sim-small"
    assert asked_again["body"]["max_tokens"] == 77
    assert [message["role"] for message in asked_again["body"]["messages"]] == ["system", "user"]
    assert tool_names(asked_again) == ["current_time", "calculate", "mark"]


async def test_instructions_and_memory_policy_are_the_plans_also_when_a_newer_release_wrote_it(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    async with replica(own_mesh, model_url, AGENT_DRAIN_S="0.1") as first:
        run_id = await left_in_its_first_answer(first, simulator, user_id, "Hello")
    instructions = {"system": "Answer as a $role.$memories", "variables": [["role", "poet"]], "added": 1}
    memory = {"recalls": False, "added": 1}
    await rewrite_plan(own_database, run_id, instructions=instructions, memory=memory, kind="single")

    async with replica(own_mesh, model_url) as heir:
        turn = await ended(heir, user_id, run_id)

    assert (await simulator.requests())[-1]["body"]["messages"][0]["content"] == "Answer as a poet."
    assert turn.kinds == ["run_restarted", "message_delta", "message_completed", "run_finished"]


async def rewrite_plan(database: Database, run_id: str, **fields: Any) -> None:
    """Rewrites the plan as a newer release with more fields would store it."""
    async with database.as_worker() as connection:
        [plan_hash] = (await connection.execute(_HASH, {"run_id": run_id})).one()
        stored_plan = orjson.loads(await plans.plan_of(connection, plan_hash) or b"")
        await plans.keep_plan(connection, b"newer", orjson.dumps(stored_plan | {"plan": stored_plan["plan"] | fields}))
        await connection.execute(_USE_NEWER, {"run_id": run_id})


_USE_NEWER = text("UPDATE agent.runs SET plan_hash = 'newer' WHERE id = :run_id")
_HASH = text("SELECT plan_hash FROM agent.runs WHERE id = :run_id")


async def test_tool_that_the_heir_lacks_is_told_to_the_model_and_a_tool_of_the_heir_is_not_called(
    own_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin, tool: ToolServer
) -> None:
    user_id = some_user()
    calls = [{"name": name, "arguments": {"token": "a"}} for name in ("mark", "other")]
    first_settings = {"AGENT_HTTP_TOOLS": tool.as_setting("once"), "AGENT_DRAIN_S": "0.1"}
    async with replica(own_mesh, model_url, **first_settings) as first:
        run_id = await left_in_its_first_answer(first, simulator, user_id, "Mark it.")
    await simulator.put_rules([{"action": {"tool_calls": calls, "in_rounds": True, "reply": "Sorry."}}])

    async with replica(own_mesh, model_url, AGENT_HTTP_TOOLS=tool.as_setting("once", name="other")) as heir:
        turn = await ended(heir, user_id, run_id)

    results = {result.tool: result for result in finished(turn.events)}
    assert tool.calls == []
    assert results["mark"].content == "The tool 'mark' is not available any more."
    assert results["other"].content == "There is no tool 'other'."
    assert all(result.is_error and not result.is_unknown for result in results.values())
    assert turn.last.HasField("run_finished")


@pytest.mark.parametrize(("registry", "answered_by"), [(("sim-large", "sim-small"), "sim-small"), (("new",), None)])
async def test_model_that_the_heir_lacks_is_passed_over(
    own_mesh: TestMesh,
    model_url: str,
    simulator: SimulatorAdmin,
    registry: tuple[str, ...],
    answered_by: str | None,
) -> None:
    user_id = some_user()
    first_models = models("removed", "sim-small", "sim-large")
    async with replica(own_mesh, model_url, AGENT_MODELS=first_models, AGENT_DRAIN_S="0.1") as first:
        run_id = await left_in_its_first_answer(first, simulator, user_id, "Hello", model="removed")

    async with replica(own_mesh, model_url, AGENT_MODELS=models(*registry)) as heir:
        turn = await ended(heir, user_id, run_id)

    asked = [request["model"] for request in await simulator.requests()]
    if answered_by:
        assert turn.last.HasField("run_finished")
        assert asked == ["removed", answered_by]
    else:
        assert asked == ["removed"]
        assert turn.last.run_failed.error.reason == "MODELS_REMOVED"
        assert turn.last.run_failed.error.is_retryable


@pytest.mark.parametrize("requested", [None, "sim-large"])
async def test_model_and_tools_that_were_revoked_meanwhile_are_not_used(
    own_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin, requested: str | None
) -> None:
    user_id = some_user()
    auth = FakeEntitlements({user_id: Entitlements(models=("sim-small", "other"), tools=("calculate", "other"))})
    async with replica(own_mesh, model_url, AGENT_DRAIN_S="0.1") as first:
        run_id = await left_in_its_first_answer(first, simulator, user_id, "Hello", model=requested)

    async with heir_of(own_mesh, model_url, {"entitlements": auth}) as heir:
        turn = await ended(heir, user_id, run_id)

    sent = await simulator.requests()
    if requested:
        assert len(sent) == 1
        assert turn.last.run_failed.error.reason == "MODEL_NOT_ALLOWED"
    else:
        assert [request["model"] for request in sent] == ["sim-large", "sim-small"]
        assert tool_names(sent[1]) == ["calculate"]


async def test_plan_counts_as_it_is_for_an_heir_that_cannot_ask_auth(
    own_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    async with replica(own_mesh, model_url, AGENT_DRAIN_S="0.1") as first:
        run_id = await left_in_its_first_answer(first, simulator, user_id, "Hello", model="sim-small")

    async with heir_of(own_mesh, model_url, {"entitlements": FakeEntitlements(error=AWAY)}) as heir:
        turn = await ended(heir, user_id, run_id)

    asked, asked_again = await simulator.requests()
    assert turn.last.HasField("run_finished")
    assert asked_again["body"] == asked["body"]
    assert asked["body"]["tools"]


async def test_what_was_granted_meanwhile_is_not_used(
    own_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    auth = FakeEntitlements({user_id: Entitlements(models=("sim-small",), tools=("calculate",), context_tokens=0)})
    settings = agent_settings(own_mesh, model_url, AGENT_DRAIN_S="0.1")
    async with running_agent(own_mesh, settings, entitlements=auth) as first:
        thread_id = (await first.run(user_id, "Before")).thread_id
        run_id = await left_in_its_first_answer(first, simulator, user_id, "Hello", thread_id=thread_id)

    async with heir_of(own_mesh, model_url, {"entitlements": FakeEntitlements()}) as heir:
        await ended(heir, user_id, run_id)

    _, asked, asked_again = await simulator.requests()
    assert asked_again["body"] == asked["body"]


async def test_run_without_a_plan_gets_one_at_its_claim(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    """The previous release started it. Later attempts use the plan too."""
    user_id = some_user()
    run_id = await insert_pending(own_database, user_id, "Hello")
    await simulator.put_rules(STUCK)
    first_models = models("sim-small", "sim-large")
    async with replica(own_mesh, model_url, AGENT_MODELS=first_models, AGENT_DRAIN_S="0.1") as first:
        await eventually(simulator.requests, bool)
        del first

    async with replica(own_mesh, model_url) as heir:
        turn = await ended(heir, user_id, run_id)

    assert turn.last.HasField("run_finished")
    assert [request["model"] for request in await simulator.requests()] == ["sim-small", "sim-small"]


@pytest.mark.parametrize(
    ("seconds", "own_seconds", "end"), [(0.5, "600", "run_failed"), (600.0, "0.5", "run_finished")]
)
async def test_attempt_may_last_as_long_as_the_plan_allows(
    own_mesh: TestMesh,
    model_url: str,
    own_database: Database,
    simulator: SimulatorAdmin,
    seconds: float,
    own_seconds: str,
    end: str,
) -> None:
    user_id = some_user()
    async with replica(own_mesh, model_url, AGENT_DRAIN_S="0.1") as first:
        run_id = await left_in_its_first_answer(first, simulator, user_id, "Hello")
    await rewrite_plan(own_database, run_id, limits={"seconds": seconds})
    await simulator.put_rules([{"action": {"reply": "one two three", "itl_ms": 500}}])

    async with replica(own_mesh, model_url, AGENT_RUN_TIMEOUT_S=own_seconds) as heir:
        turn = await ended(heir, user_id, run_id)

    assert turn.last.WhichOneof("event") == end
    if end == "run_failed":
        assert turn.last.run_failed.error.reason == "RUN_TIMEOUT"


async def test_run_that_resumes_an_execution_goes_on_from_its_checkpoints(
    own_mesh: TestMesh, model_url: str, own_database: Database, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    await simulator.put_rules([{"match": {"anywhere": "42", "times": 1}, "action": {"itl_ms": 20_000}}])
    message = '[[sim:tool=calculate {"expression": "6*7"}]] [[sim:reply=It is {tool_result}.]]'
    async with replica(own_mesh, model_url, AGENT_DRAIN_S="0.1") as first, first.starting(user_id, message) as started:
        await started.until("tool_finished")
        await started.until("message_delta")
    run_id = await insert_resuming(own_database, user_id, started.run_id)

    async with replica(own_mesh, model_url) as heir:
        turn = await ended(heir, user_id, run_id)

    _, after_the_tool, resumed = await simulator.requests()
    assert turn.last.HasField("run_finished")
    assert resumed["body"]["messages"] == after_the_tool["body"]["messages"]
    assert not finished(turn.events)
    async with own_database.as_subject(personal(user_id)) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM agent.checkpoints"))).scalar_one() == 0


async def insert_resuming(database: Database, user_id: UserId, before: str) -> str:
    """A pending run that resumes the execution of a run that ends here."""
    run_id = new_id()
    async with database.as_subject(personal(user_id)) as connection:
        parameters = {"run_id": run_id, "before": UUID(before), "id": new_id()}
        await connection.execute(text("UPDATE agent.runs SET status = 'cancelled' WHERE id = :before"), parameters)
        await connection.execute(_RESUME, parameters)
    return str(run_id)


_RESUME = text("""
    WITH run AS (
        INSERT INTO agent.runs (id, user_id, thread_id, status, execution_id, plan_hash)
        SELECT :run_id, user_id, thread_id, 'pending', id, plan_hash FROM agent.runs WHERE id = :before
        RETURNING id, user_id, thread_id, position)
    INSERT INTO agent.messages (id, user_id, thread_id, run_id, position, part, role, content)
    SELECT :id, user_id, thread_id, id, position, 0, 'user', '' FROM run
""")


async def test_request_that_is_repeated_at_a_replica_with_other_settings_gives_the_same_run(
    own_mesh: TestMesh, model_url: str
) -> None:
    """Requests are compared, not the plans they resolve to."""
    user_id = some_user()
    run_ids = []
    for own_models in (models("sim-large"), models("sim-small", "sim-large")):
        async with replica(own_mesh, model_url, AGENT_MODELS=own_models) as agent:
            run_ids.append((await agent.run(user_id, "Hello", idempotency_key="key")).run_id)

    assert run_ids[0] == run_ids[1]
