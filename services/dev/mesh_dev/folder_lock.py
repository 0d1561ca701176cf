"""One data folder, one stack: a lock that the kernel takes back when its holder ends, however it ends.

PostgreSQL and Valkey would notice too, but late: one waits for a server that may be going, the other is overwritten.
"""

import fcntl
import os
from pathlib import Path
from typing import TextIO

from mesh_dev.errors import FolderTakenError


class FolderLock:
    """The lock of a data folder, taken and released any number of times."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._file: TextIO | None = None

    def take(self) -> None:
        """Raises FolderTakenError at once when another stack has it."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        # Not truncated before it is ours: it names the holder.
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
        """Harmless when it was not taken."""
        if self._file:
            self._file.close()
            self._file = None
