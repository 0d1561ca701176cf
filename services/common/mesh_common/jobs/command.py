"""The command `dead-letters list|send-again` of a service with a job queue.

It prints one line per letter, without payloads: they may hold prompts, answers or memories.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Final

from mesh_common.database.asyncpg_pool import open_database
from mesh_common.database.pool import Pool
from mesh_common.database.postgres import Database
from mesh_common.database.statements import AnyConnection
from mesh_common.errors import MeshError
from mesh_common.jobs.dead_letters import DeadLetter, DeadLetters, Selection
from mesh_common.process.settings import GrpcSettings

_POOL: Final = Pool("command", size=1)
_PAGE: Final = 1_000


def run_command(settings: GrpcSettings, table: str, arguments: argparse.Namespace) -> None:
    """Ends the process with one line on stderr if the database is unavailable, or nothing was found to send again."""
    try:
        asyncio.run(_run(settings, table, arguments))
    except MeshError as error:
        sys.exit(error.message)


async def _run(settings: GrpcSettings, table: str, arguments: argparse.Namespace) -> None:
    letters, selection = DeadLetters(table), Selection(arguments.kind, arguments.id)
    async with open_database(settings, schema=table.partition(".")[0], pool=_POOL) as database:
        if arguments.action == "list":
            async for letter in _every(database, letters, selection):
                sys.stdout.write(f"{_line(letter)}\n")
            return
        async with database.as_worker() as connection:
            sent = await letters.send_again(connection, selection)
    if not sent:
        sys.exit("There are no such dead letters.")
    sys.stdout.write(f"{sent} sent again\n")


async def _every(
    database: Database[AnyConnection], letters: DeadLetters, selection: Selection
) -> AsyncIterator[DeadLetter]:
    page: Sequence[DeadLetter] = ()
    while True:
        async with database.as_worker() as connection:
            page = await letters.page(connection, selection, limit=_PAGE, after=page[-1].place if page else None)
        for letter in page:
            yield letter
        if len(page) < _PAGE:
            return


def _line(letter: DeadLetter) -> str:
    times = f"queued={letter.queued_at:%Y-%m-%dT%H:%M:%SZ} failed={letter.failed_at:%Y-%m-%dT%H:%M:%SZ}"
    return f"{letter.id} kind={letter.kind} user={letter.user_id} {times} reason={letter.reason}"
