from pathlib import Path

import pytest
from mesh_dev.errors import FolderTakenError
from mesh_dev.folder_lock import FolderLock
from mesh_dev.settings import DevSettings
from mesh_dev.stack import Stack, StackOptions
from support.net import free_port_base


async def test_a_data_folder_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    lines: list[str] = []
    settings = DevSettings(port_base=free_port_base(), data_dir=tmp_path)
    stack = Stack(StackOptions(settings=settings, models="simulator", say=lines.append))
    other = FolderLock(tmp_path)
    other.take()

    with pytest.raises(FolderTakenError, match="MESH_DATA_DIR"):
        await stack.start_all()

    other.release()
    assert lines == []
    assert not stack.log_dir.exists()
