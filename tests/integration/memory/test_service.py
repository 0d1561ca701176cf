"""Every RPC through the real gRPC server, also with the id of another user's memory."""

import pytest
from google.protobuf.message import Message
from mesh.memory.v1 import memory_pb2 as pb
from mesh_agent.clients.personal_memories import PersonalMemoriesClient
from mesh_agent.domain.threads import SaidInRun
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Unavailable,
)
from mesh_common.grpc.edges import ServiceName
from mesh_common.ids import RunId, ThreadId, new_id
from mesh_memory.settings import MemorySettings
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support.memory import MemoryClient, memory_settings, new_subject, open_memory
from support.mesh import TestMesh

SENTENCE = "My name is Ada and my code word is zebra-4711."


async def test_what_the_user_said_is_recalled_for_a_later_question(memory: MemoryClient) -> None:
    """Passes through queue, mem0, store and search."""
    ada = new_subject()

    run_id = await memory.remember(ada, f"Hello! {SENTENCE} What can you do?")
    await memory.texts_once_kept(ada)

    [recalled] = await memory.recall(ada, "What is my code word?")
    assert recalled.text == SENTENCE
    assert recalled.run_id == str(run_id)
    assert recalled.origin == pb.MEMORY_ORIGIN_EXTRACTED
    assert recalled.similarity > 0.2


async def test_another_user_recalls_nothing_of_it(memory: MemoryClient) -> None:
    ada = new_subject()
    await memory.remember(ada, SENTENCE)
    await memory.texts_once_kept(ada)

    stranger = new_subject()

    assert await memory.recall(stranger, "What is my code word?") == []
    assert await memory.texts(stranger) == []
    assert not (await memory.call("SearchMemories", stranger, pb.SearchMemoriesRequest(query="zebra"))).memories


async def test_a_run_remembered_again_after_it_was_done_changes_nothing(
    memory: MemoryClient, database: Database
) -> None:
    ada = new_subject()
    run_id = await memory.remember(ada, SENTENCE)
    await memory.texts_once_kept(ada)

    await memory.remember(ada, "My code word is lion-1234 now.", run_id=run_id)

    assert await memory.texts(ada) == [SENTENCE]
    async with database.as_subject(ada) as connection:
        open_runs = text("SELECT count(*) FROM memory.remembered_runs WHERE closed_at IS NULL")
        assert (await connection.execute(open_runs)).scalar_one() == 0


async def test_a_written_memory_is_read_changed_found_and_deleted(memory: MemoryClient) -> None:
    ada = new_subject()
    created = await memory.create(ada, "I live in  Rome.")

    got = (await memory.call("GetMemory", ada, pb.GetMemoryRequest(memory_id=created.id))).memory
    update = pb.UpdateMemoryRequest(memory_id=created.id, text="I keep two green parrots.")
    updated = (await memory.call("UpdateMemory", ada, update)).memory
    search = pb.SearchMemoriesRequest(query="parrots", limit=1)
    [found] = (await memory.call("SearchMemories", ada, search)).memories
    await memory.call("DeleteMemory", ada, pb.DeleteMemoryRequest(memory_id=created.id))

    assert (got, got.text, got.origin) == (created, "I live in Rome.", pb.MEMORY_ORIGIN_WRITTEN)
    assert not got.HasField("run_id")
    assert got.created_at == got.updated_at
    assert (updated.text, updated.created_at) == ("I keep two green parrots.", created.created_at)
    assert updated.updated_at.ToNanoseconds() > updated.created_at.ToNanoseconds()
    assert (found.id, found.text) == (created.id, updated.text)
    assert found.similarity > 0.3
    with pytest.raises(NotFound):
        await memory.call("GetMemory", ada, pb.GetMemoryRequest(memory_id=created.id))


async def test_creating_the_same_again_gives_what_is_there(memory: MemoryClient) -> None:
    ada = new_subject()

    first = await memory.create(ada, "I live in Rome.")
    second = await memory.create(ada, "i live in ROME.")

    assert second == first
    assert await memory.texts(ada) == ["I live in Rome."]


@pytest.mark.parametrize("text", ["\u200b", " \u2060\ufeff ", "\u3164"])
async def test_a_memory_of_invisible_characters_only_is_refused(memory: MemoryClient, text: str) -> None:
    ada = new_subject()

    with pytest.raises(InvalidInput) as raised:
        await memory.create(ada, text)

    assert raised.value.fields[0].field == "text"
    assert await memory.texts(ada) == []


async def test_the_same_text_with_invisible_characters_is_the_same_memory(memory: MemoryClient) -> None:
    ada = new_subject()
    first = await memory.create(ada, "I live in Rome.")

    assert await memory.create(ada, "I live\u200b in \ufeffRome.") == first
    assert await memory.create(ada, "\u2060 I live in Ro\u00adme.") == first


async def test_an_update_to_the_text_of_another_memory_is_refused(memory: MemoryClient) -> None:
    ada = new_subject()
    rome = await memory.create(ada, "I live in Rome.")
    await memory.create(ada, "I live in Paris.")

    with pytest.raises(AlreadyExists):
        await memory.call("UpdateMemory", ada, pb.UpdateMemoryRequest(memory_id=rome.id, text="I live in paris."))


async def test_pages_are_newest_first_and_end(memory: MemoryClient) -> None:
    ada = new_subject()
    for number in range(5):
        await memory.create(ada, f"Fact {number}")

    texts: list[str] = []
    cursor: str | None = None
    sizes = []
    while True:
        page = await memory.call("ListMemories", ada, pb.ListMemoriesRequest(limit=2, cursor=cursor))
        texts += [item.text for item in page.memories]
        sizes.append(len(page.memories))
        if not page.HasField("next_cursor"):
            break
        cursor = page.next_cursor

    assert texts == [f"Fact {number}" for number in reversed(range(5))]
    assert sizes == [2, 2, 1]


async def test_a_cursor_of_another_user_shows_own_memories_only(memory: MemoryClient) -> None:
    ada, eve = new_subject(), new_subject()
    for number in range(3):
        await memory.create(ada, f"Fact {number}")
    page = await memory.call("ListMemories", ada, pb.ListMemoriesRequest(limit=1))

    stolen = await memory.call("ListMemories", eve, pb.ListMemoriesRequest(cursor=page.next_cursor))

    assert not stolen.memories


async def test_deleting_all_forgets_own_memories_and_tells_how_many(memory: MemoryClient) -> None:
    ada, bob = new_subject(), new_subject()
    for number in range(3):
        await memory.create(ada, f"Fact {number}")
    await memory.create(bob, "Fact of Bob")

    response = await memory.call("DeleteAllMemories", ada, pb.DeleteAllMemoriesRequest())

    assert response.deleted == 3
    assert await memory.texts(ada) == []
    assert await memory.texts(bob) == ["Fact of Bob"]


@pytest.mark.parametrize("rpc", ["GetMemory", "UpdateMemory", "DeleteMemory"])
async def test_the_memory_of_another_user_is_not_found(memory: MemoryClient, rpc: str) -> None:
    theirs = await memory.create(new_subject(), "I live in Rome.")
    request: dict[str, Message] = {
        "GetMemory": pb.GetMemoryRequest(memory_id=theirs.id),
        "UpdateMemory": pb.UpdateMemoryRequest(memory_id=theirs.id, text="Mine."),
        "DeleteMemory": pb.DeleteMemoryRequest(memory_id=theirs.id),
    }

    with pytest.raises(NotFound):
        await memory.call(rpc, new_subject(), request[rpc])


@pytest.mark.parametrize(
    ("rpc", "request_", "field"),
    [
        ("Recall", pb.RecallRequest(), "query"),
        ("Remember", pb.RememberRequest(run_id="x"), "messages"),
        ("CreateMemory", pb.CreateMemoryRequest(text="a\x00b"), "text"),
        ("GetMemory", pb.GetMemoryRequest(memory_id="x"), "memory_id"),
        ("ListMemories", pb.ListMemoriesRequest(cursor="x"), "cursor"),
        ("SearchMemories", pb.SearchMemoriesRequest(), "query"),
        ("UpdateMemory", pb.UpdateMemoryRequest(memory_id=str(new_id())), "text"),
        ("DeleteMemory", pb.DeleteMemoryRequest(), "memory_id"),
    ],
)
async def test_bad_input_comes_back_naming_its_field(
    memory: MemoryClient, rpc: str, request_: Message, field: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        await memory.call(rpc, new_subject(), request_)

    assert raised.value.fields[0].field == field


@pytest.mark.parametrize(("caller", "rpc"), [("eval", "Recall"), ("agent", "ListMemories"), ("gateway", "Remember")])
async def test_a_service_that_has_no_edge_here_is_refused(memory: MemoryClient, caller: ServiceName, rpc: str) -> None:
    requests: dict[str, Message] = {
        "Recall": pb.RecallRequest(query="x"),
        "ListMemories": pb.ListMemoriesRequest(),
        "Remember": pb.RememberRequest(),
    }

    with pytest.raises(PermissionDenied):
        await memory.call(rpc, new_subject(), requests[rpc], caller=caller)


async def test_recall_of_a_slow_embedding_server_ends_within_its_budget(
    memory_mesh: TestMesh, simulator_url: str
) -> None:
    settings = memory_settings(memory_mesh, simulator_url, recall_timeout_s=0.2)
    hang = {"match": {"kind": "embeddings", "contains": "tortoise"}, "action": {"fault": "hang"}}

    async with SimulatorAdmin(simulator_url) as simulator, open_memory(settings, memory_mesh) as memory:
        await simulator.put_rules([hang])
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await memory.recall(new_subject(), "Where is my tortoise?")
        await simulator.clear_rules()


async def test_without_an_embedding_server_memories_can_still_be_listed_and_deleted(
    memory: MemoryClient, memory_mesh: TestMesh
) -> None:
    ada = new_subject()
    await memory.create(ada, "I live in Rome.")
    settings: MemorySettings = memory_settings(memory_mesh, "http://127.0.0.1:9")

    async with open_memory(settings, memory_mesh) as cut_off:
        with pytest.raises(Unavailable):
            await cut_off.recall(ada, "Rome")
        with pytest.raises(Unavailable):
            await cut_off.create(ada, "I like tea.")
        assert await cut_off.texts(ada) == ["I live in Rome."]
        await cut_off.call("DeleteAllMemories", ada, pb.DeleteAllMemoriesRequest())
        assert await cut_off.texts(ada) == []


async def test_run_of_an_agent_stores_corrects_finds_and_deletes_memories_of_its_user(memory: MemoryClient) -> None:
    """Through the agent's own client, which is another caller than the gateway."""
    ada, stranger = new_subject(), new_subject()
    memories = PersonalMemoriesClient(memory.test_mesh.calls_as("agent", "memory"), memory.stub)
    said = SaidInRun(RunId(new_id()), ThreadId(new_id()), utc_now(), forget_generation=0)
    memory_id = await memories.create(ada, "The user lives in Rome.", said)
    await memories.replace(ada, memory_id, "The user lives in Paris.")

    [found] = await memories.search(ada, "Where does the user live?")
    with pytest.raises(NotFound):
        await memories.delete(stranger, memory_id)
    with pytest.raises(NotFound):
        await memories.replace(stranger, memory_id, "Mine.")
    await memories.delete(ada, memory_id)

    assert (found.id, found.text) == (memory_id, "The user lives in Paris.")
    assert await memories.search(ada, "Where does the user live?") == []
    with pytest.raises(PreconditionFailed) as refused:
        await memories.create(ada, "The user lives in Rome.", said)
    assert refused.value.reason == "FORGOTTEN"
