"""Administrators list dead letters and send them again, by a command and by the service."""

import argparse
import asyncio
import io
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any, cast

import pytest
from mesh.jobs.v1 import jobs_pb2 as pb
from mesh_common.caller import Caller, acting
from mesh_common.database.postgres import Database
from mesh_common.errors import NotFound, PermissionDenied
from mesh_common.jobs.command import run_command
from mesh_common.jobs.servicer import DeadLetterServicer
from mesh_common.subject import Subject
from support.buried_jobs import bury, letters_of
from support.jobs import KIND, claim_jobs
from support.mesh import TestMesh
from support.scratch import jobs, settings_for
from support.subjects import some_subject

pytestmark = pytest.mark.usefixtures("empty_queue")


async def test_letters_are_listed_and_sent_again_by_a_command_without_their_texts(
    database: Database, test_mesh: TestMesh
) -> None:
    dead = await bury(database, payload={"message": "my secret"})
    await bury(database, "other", kind="other")

    listed = await _command(test_mesh, "list", kind=KIND)
    sent = await _command(test_mesh, "send-again", id=dead)
    with pytest.raises(SystemExit, match="no such dead letters"):
        await _command(test_mesh, "send-again", id=dead)

    [line] = listed.splitlines()
    assert line.startswith(f"{dead} kind={KIND} user=")
    assert line.endswith("reason=MISCONFIGURED")
    assert "secret" not in listed
    assert sent == "1 sent again\n"
    assert [job.id for job in await claim_jobs(database)] == [dead]


def _as(*scopes: str) -> AbstractContextManager[None]:
    admin = some_subject()
    subject = Subject(admin.organisation_id, admin.user_id, scopes=frozenset(scopes))
    return acting(Caller("gateway", subject, None))


async def test_administrators_list_letters_by_page_and_send_them_again(database: Database) -> None:
    servicer, context = DeadLetterServicer(database, jobs.fullname), cast("Any", None)
    ids = [str(await bury(database, str(number))) for number in range(3)]
    other = str(await bury(database, "other", kind="other"))

    with _as("user", "admin"):
        first = await servicer.ListDeadLetters(pb.ListDeadLettersRequest(limit=2, kind=KIND), context)
        request = pb.ListDeadLettersRequest(limit=2, kind=KIND, cursor=first.next_cursor)
        rest = await servicer.ListDeadLetters(request, context)
        await servicer.SendDeadLetterAgain(pb.SendDeadLetterAgainRequest(id=other), context)
        with pytest.raises(NotFound):
            await servicer.SendDeadLetterAgain(pb.SendDeadLetterAgainRequest(id=other), context)

    assert [letter.id for letter in (*first.dead_letters, *rest.dead_letters)] == ids[::-1]
    assert (first.HasField("next_cursor"), rest.HasField("next_cursor")) == (True, False)
    assert {(letter.kind, letter.reason) for letter in first.dead_letters} == {(KIND, "MISCONFIGURED")}
    assert [letter.kind for letter in await letters_of(database)] == [KIND] * 3


async def test_service_refuses_whoever_is_no_administrator(database: Database) -> None:
    servicer, context = DeadLetterServicer(database, jobs.fullname), cast("Any", None)
    dead = await bury(database)

    with _as("user"):
        with pytest.raises(PermissionDenied, match="administrators"):
            await servicer.ListDeadLetters(pb.ListDeadLettersRequest(limit=1), context)
        with pytest.raises(PermissionDenied, match="administrators"):
            await servicer.SendDeadLetterAgain(pb.SendDeadLetterAgainRequest(id=str(dead)), context)

    assert [letter.id for letter in await letters_of(database)] == [dead]


async def _command(test_mesh: TestMesh, action: str, **options: Any) -> str:
    arguments = argparse.Namespace(**{"action": action, "kind": None, "id": None, **options})

    def run() -> str:
        with redirect_stdout(io.StringIO()) as printed:
            run_command(settings_for(test_mesh, "scratch"), jobs.fullname, arguments)
        return printed.getvalue()

    return await asyncio.to_thread(run)
