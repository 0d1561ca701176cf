import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mesh_dev.errors import FolderTakenError
from mesh_dev.folder_lock import FolderLock

TAKE_AND_WAIT = """
import pathlib, sys
from mesh_dev.folder_lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]))
lock.take()
print("taken", flush=True)
sys.stdin.read()
"""


def test_a_folder_in_use_is_refused_and_its_user_named(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "data"), FolderLock(tmp_path / "data")
    first.take()

    with pytest.raises(FolderTakenError, match=rf"process {os.getpid()}\) uses {re.escape(str(tmp_path))}.*MESH_DATA"):
        second.take()

    first.release()
    second.take()
    second.release()


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TAKE_AND_WAIT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        lock = FolderLock(tmp_path)
        with pytest.raises(FolderTakenError, match=f"process {holder.pid}"):
            lock.take()
        holder.kill()

    lock.take()
    lock.release()
