import pytest
from support.memory_on_fakes import MemoryOnFakes


@pytest.fixture
def service() -> MemoryOnFakes:
    return MemoryOnFakes()
