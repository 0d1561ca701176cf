import asyncio

import pytest
from mesh_dev import progress
from mesh_dev.errors import ChildDiedError, DevError, NotReadyError
from mesh_dev.progress import Progress, together


async def done() -> None:
    pass


async def fail_with(error: DevError) -> None:
    raise error


async def test_each_part_is_reported_when_it_is_ready() -> None:
    lines: list[str] = []

    await Progress(lines.append).all_ready({"postgres": done, "valkey": done})

    assert [line.split(" ready after ")[0] for line in lines] == ["postgres", "valkey"]


async def test_parts_that_are_waited_for_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 0.01)
    lines: list[str] = []
    reported = asyncio.Event()

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting"):
            reported.set()

    async def slow() -> None:
        await reported.wait()

    await Progress(say).all_ready({"model": slow, "valkey": done})

    assert lines[1] == "waiting for model … 0 s"


async def test_first_failure_comes_by_itself_and_cancels_the_others() -> None:
    cancelled = asyncio.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(ChildDiedError, match=r"^valkey ended$"):
        await together(wait_for_ever(), fail_with(ChildDiedError("valkey ended")))

    assert cancelled.is_set()


async def test_failure_within_a_failure_comes_by_itself_too() -> None:
    with pytest.raises(NotReadyError, match=r"^late$"):
        await together(together(fail_with(NotReadyError("late"))))
