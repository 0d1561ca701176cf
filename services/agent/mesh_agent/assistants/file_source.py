"""Keeps the assistants of a folder up to date: a change is used without a restart."""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from mesh_agent.assistants.files import FileAssistant, read_folder, stamp_of
from mesh_agent.assistants.planning import Planner
from mesh_agent.metrics import ASSISTANT_FAULTS

log = structlog.get_logger()

_POLL_S: Final = 2.0


class FileSource:
    """`assistants` by name; one that becomes invalid stays as it was last valid."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._stamp: object = None
        self.assistants: dict[str, FileAssistant] = {}

    async def run(self, planner: Planner) -> None:
        if self._folder is None:
            return
        while True:
            await self.refresh(planner)
            await asyncio.sleep(_POLL_S)

    async def refresh(self, planner: Planner) -> None:
        """Reads the folder again if a file has changed."""
        if self._folder is None:
            return
        try:
            stamp = await asyncio.to_thread(stamp_of, self._folder)
            if stamp == self._stamp:
                return
            read = await asyncio.to_thread(read_folder, self._folder, planner)
        except OSError as error:
            # Between two states of the folder, or gone: what was read stays.
            ASSISTANT_FAULTS.set(1)
            log.warning("assistants.not_read", folder=self._folder.name, error=type(error).__name__)
            return
        self._stamp = stamp
        ASSISTANT_FAULTS.set(len(read.faults))
        for fault in read.faults:
            log.error("assistant.invalid", fault=str(fault))
        faulty = {fault.file for fault in read.faults}
        kept = {name: one for name, one in self.assistants.items() if one.file in faulty}
        self.assistants = {**kept, **read.assistants}
        log.info("assistants.read", assistants=sorted(self.assistants), faults=len(read.faults))
