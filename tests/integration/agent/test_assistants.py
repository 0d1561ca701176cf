"""Assistants of the API, on the real PostgreSQL: their versions, who may do what, and what is refused."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.errors import (
    AlreadyExists,
    Conflict,
    IdempotencyKeyReused,
    InvalidInput,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
)
from mesh_common.subject import Subject
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.assistants import PRIVATE, SHARED, AssistantCalls, member, spec
from support.mesh import TestMesh


def calls_of(agent: AgentUnderTest) -> AssistantCalls:
    return AssistantCalls(agent, Subject.personal(some_user()))


async def test_each_change_makes_a_version_and_an_earlier_one_can_be_current_again(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)

    first = await ada.create(spec(description="One"))
    second = await ada.update(spec(description="Two"), expected_version="1")
    back = await ada.set_current("1", expected_version="2")
    third = await ada.update(spec(description="Three"))
    versions = (await ada.versions()).versions

    assert [one.version for one in (first, second, back, third)] == ["1", "2", "1", "3"]
    assert [orjson.loads(one.spec_json)["description"] for one in versions] == ["Three", "Two", "One"]
    assert [one.is_current for one in versions] == [True, False, False]
    assert (await ada.get()).spec_json == third.spec_json
    assert (await ada.get(version="2")).spec_json == second.spec_json
    assert {one.created_by for one in versions} == {str(ada.subject.user_id)}


async def test_versions_and_assistants_are_listed_in_pages(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    for number in range(3):
        await ada.create(spec(name=f"a{number}"))
    for _ in range(2):
        await ada.update(spec(name="a0"))

    first = await ada.versions("a0", limit=2)
    rest = await ada.versions("a0", limit=2, cursor=first.next_cursor)
    names, cursor = [], None
    while True:
        page = await ada.page(limit=2, cursor=cursor)
        names += [one.name for one in page.assistants]
        if not page.HasField("next_cursor"):
            break
        cursor = page.next_cursor

    assert [one.version for one in (*first.versions, *rest.versions)] == ["3", "2", "1"]
    assert not rest.HasField("next_cursor")
    assert names == ["a0", "a1", "a2", "default"]


@pytest.mark.parametrize("cursor", ["x", "WzFd", "WyJOT1QgQSBOQU1FIl0", "W10"])
async def test_forged_cursor_is_refused(agent: AgentUnderTest, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        await calls_of(agent).page(cursor=cursor)


async def test_change_that_is_based_on_another_version_is_refused(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create()
    await ada.update()

    for change in (ada.update, ada.delete, lambda **fields: ada.set_current("1", **fields)):
        with pytest.raises(Conflict) as refused:
            await change(expected_version="1")
        assert refused.value.reason == "ASSISTANT_CHANGED"
    assert (await ada.get()).version == "2"


async def test_deleted_assistant_is_gone_and_its_name_is_free(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create()

    await ada.delete(expected_version="1")

    with pytest.raises(NotFound):
        await ada.get()
    assert (await ada.create()).version == "1"


async def test_private_assistant_does_not_exist_for_others(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create(visibility=PRIVATE)
    colleague = AssistantCalls(agent, member(ada.subject.user_id, "assistants:manage"))

    await _is_absent_for(colleague)
    # They may have one of the same name.
    assert (await colleague.create()).version == "1"


async def test_shared_assistant_is_used_by_its_organisation_and_changed_by_its_creator(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create(visibility=SHARED)
    colleague = AssistantCalls(agent, member(ada.subject.user_id))

    turn = await colleague.start("[[sim:prompt]]", assistant="pirate")

    assert turn.text == "Answer as a pirate."
    assert await colleague.names() == ["default", "pirate"]
    for change in (colleague.update, colleague.delete, colleague.disable, lambda: colleague.set_current("1")):
        with pytest.raises(PermissionDenied):
            await change()


async def test_manager_of_the_organisation_changes_what_others_share(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create(visibility=SHARED)
    manager = AssistantCalls(agent, member(ada.subject.user_id, "assistants:manage"))

    changed = await manager.update(spec(description="Better"))
    disabled = await manager.disable()
    await manager.delete()

    assert (changed.version, changed.created_by) == ("2", str(manager.subject.user_id))
    assert disabled.is_disabled
    with pytest.raises(NotFound):
        await ada.get()


async def test_assistants_do_not_exist_for_another_organisation(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create(visibility=SHARED)

    await _is_absent_for(AssistantCalls(agent, member(some_user(), "assistants:manage", "admin")))


async def _is_absent_for(stranger: AssistantCalls) -> None:
    for call in (
        stranger.get,
        stranger.versions,
        stranger.update,
        stranger.delete,
        stranger.disable,
        lambda: stranger.set_current("1"),
        lambda: stranger.start(assistant="pirate"),
    ):
        with pytest.raises(NotFound):
            await call()
    assert await stranger.names() == ["default"]


async def test_name_that_is_taken_is_refused(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create(visibility=SHARED)
    colleague = AssistantCalls(agent, member(ada.subject.user_id))
    await colleague.create()

    attempts: list[Callable[[], Awaitable[object]]] = [ada.create, lambda: colleague.update(visibility=SHARED)]
    for again in attempts:
        with pytest.raises(AlreadyExists) as refused:
            await again()
        assert refused.value.reason == "ASSISTANT_NAME_TAKEN"


async def test_repeated_creation_gives_the_same_and_another_body_is_refused(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)

    first = await ada.create(idempotency_key="key")
    second = await ada.create(idempotency_key="key")

    assert second == first
    with pytest.raises(IdempotencyKeyReused):
        await ada.create(spec(name="other"), idempotency_key="key")


async def test_number_of_assistants_is_bounded(own_mesh: TestMesh, model_url: str) -> None:
    settings = agent_settings(own_mesh, model_url, AGENT_MAX_ASSISTANTS_PER_USER="1")
    async with running_agent(own_mesh, settings) as agent:
        ada = calls_of(agent)
        await ada.create()
        with pytest.raises(QuotaExceeded):
            await ada.create(spec(name="second"))


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": "Not A Slug"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"surprise": 1}, "surprise"),
        ({"models": ["no-such-model"]}, "models.0"),
        ({"tools": ["calculate", "no_such_tool"]}, "tools.1"),
        ({"tools": [{"name": "calculate", "approval": "sometimes"}]}, "tools.0.approval"),
        ({"instructions": "Hello $nobody"}, "instructions"),
        ({"instructions": "x" * 100_001}, "instructions"),
        ({"instructions": "a\x00b"}, "instructions"),
        ({"parameters": {"temperature": 2.5}}, "parameters.temperature"),
        ({"parameters": {"temperature": "1"}}, "parameters.temperature"),
        ({"parameters": {"stop": ["x"] * 5}}, "parameters.stop"),
        ({"limits": {"rounds": 0}}, "limits.rounds"),
        ({"kind": "graph"}, "graph"),
        ({"kind": "graph", "graph": {"name": "no-such-graph"}}, "graph.name"),
        ({"kind": "supervisor"}, "members"),
        ({"kind": "swarm"}, "kind"),
        ({"kind": "supervisor", "members": ["no-such"]}, "members.0"),
        ({"kind": "supervisor", "members": ["default", "default"]}, "members.1"),
        ({"kind": "handoff", "members": ["a@x!"]}, "members.0.assistant"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ],
)
async def test_description_that_is_not_valid_is_refused_with_its_path(
    agent: AgentUnderTest, fields: dict[str, Any], path: str
) -> None:
    ada = calls_of(agent)

    with pytest.raises(InvalidInput) as refused:
        await ada.create(spec(**fields))

    assert [fault.field for fault in refused.value.fields] == [path]
    assert await ada.names() == ["default"]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '{"name": "' + "x" * 140_000 + '"}', "[" * 10_000])
async def test_description_that_is_no_object_is_refused(agent: AgentUnderTest, text: str) -> None:
    with pytest.raises(InvalidInput):
        await calls_of(agent).create(text or " ")


async def test_default_is_an_assistant_like_any_other_and_belongs_to_the_service(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)

    shown = await ada.get("default")

    assert (shown.source, shown.version, shown.is_current) == (pb.ASSISTANT_SOURCE_FILE, "", True)
    for change in (ada.create, ada.update):
        with pytest.raises(AlreadyExists) as refused:
            await change(spec(name="default"))
        assert refused.value.reason == "ASSISTANT_IN_FILES"
    with pytest.raises(AlreadyExists):
        await ada.delete("default")
    with pytest.raises(PermissionDenied):
        await ada.disable("default")
