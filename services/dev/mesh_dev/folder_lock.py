"""Ensures that a data folder has only one stack, by a lock that the kernel releases however its holder ends.

PostgreSQL and Valkey would notice a second stack only later: PostgreSQL waits for a server that may be stopping, and
Valkey's files are overwritten.
"""

import fcntl
import os
from pathlib import Path
from typing import TextIO

from mesh_dev.errors import FolderTakenError


class FolderLock:
    """The lock of a data folder. It can be taken and released repeatedly."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._file: TextIO | None = None

    def take(self) -> None:
        """Raises FolderTakenError immediately if another stack holds the lock."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        # Not truncated before the lock is taken, because the file names its holder.
        file = (self._data_dir / "stack.lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise FolderTakenError(
                f"another stack (process {holder}) uses {self._data_dir}: stop it, or set MESH_DATA_DIR"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Does nothing if the lock is not held."""
        if self._file:
            self._file.close()
            self._file = None
