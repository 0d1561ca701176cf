import asyncio
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_dev.errors import ChildDiedError
from mesh_dev.process import ChildProcess, Program
from mesh_dev.wait import Waiter

SAY_PID_AND_SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
# A parent that starts one child and waits for ever. It prints the child's process id once the child's program runs.
PARENT = f"""
import asyncio, pathlib, sys
from mesh_dev.process import ChildProcess, Program
from mesh_dev.wait import Waiter
async def main():
    argv = [sys.executable, "-c", {SAY_PID_AND_SLEEP!r}]
    child = ChildProcess(Program(name="child", argv=argv), pathlib.Path(sys.argv[1]))
    await child.start()
    async def has_spoken():
        return child.recent_log().endswith("\\n")
    await Waiter().ready("child", has_spoken)
    print(child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
async def children(tmp_path: Path) -> AsyncIterator["Children"]:
    started = Children(tmp_path)
    yield started
    for child in started.all:
        await child.stop()


class Children:
    """Starts Python programs and waits for their output."""

    def __init__(self, log_dir: Path) -> None:
        self.all: list[ChildProcess] = []
        self._log_dir = log_dir

    async def start(self, code: str, *, until: str = "", stop_timeout_s: float = 10.0, **env: str) -> ChildProcess:
        program = Program(name="part", argv=[sys.executable, "-c", code], env=env, stop_timeout_s=stop_timeout_s)
        child = ChildProcess(program, self._log_dir)
        self.all.append(child)
        await child.start()
        await Waiter(deadline_s=10).ready("the first words", lambda: has_written(child, until))
        return child


async def has_written(child: ChildProcess, text: str) -> bool:
    return text in child.recent_log()


async def test_child_gets_its_environment_and_logs_both_streams(children: Children) -> None:
    code = "import os, sys; print('out', os.environ['MESH_TEST']); print('err', file=sys.stderr)"
    child = await children.start(code, MESH_TEST="here")

    await child.wait_ended()

    assert sorted(child.log_path.read_text().split("\n")) == ["", "err", "out here"]
    assert child.log_path.name == "part.log"


async def test_stop_lets_the_program_end_by_itself(children: Children) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('drained', flush=True), sys.exit(0)))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    child = await children.start(code, until="ready")

    await child.stop()

    assert child.last_log_line() == "drained"
    assert not child.is_running


async def test_stop_ends_a_program_that_will_not_go(children: Children) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    child = await children.start(code, until="ready", stop_timeout_s=0.1)

    await child.stop()

    assert "was killed by SIGKILL" in child.obituary()


async def test_stop_takes_the_grandchildren_along(children: Children) -> None:
    grandchild = f"subprocess.Popen([sys.executable, '-c', {SAY_PID_AND_SLEEP!r}])"
    child = await children.start(f"import subprocess, sys, time; {grandchild}; time.sleep(60)", until="\n")
    grandchild_fd = os.pidfd_open(int(child.last_log_line()))

    await child.stop()

    assert _ends_within(grandchild_fd, timeout_s=5)


async def test_death_is_reported_in_one_line(children: Children) -> None:
    child = await children.start("print('port 7 is taken'); raise SystemExit(3)")

    with pytest.raises(ChildDiedError) as death:
        await child.watch()

    assert str(death.value) == f"part ended with exit code 3: port 7 is taken (log: {child.log_path})"


async def test_death_by_a_signal_is_named_without_a_log_line_that_is_not_about_it(children: Children) -> None:
    child = await children.start(SAY_PID_AND_SLEEP, until="\n")

    child.kill()

    with pytest.raises(ChildDiedError) as death:
        await child.watch()

    assert str(death.value) == f"part was killed by SIGKILL (log: {child.log_path})"


async def test_watch_ends_quietly_when_the_child_was_stopped_on_purpose(children: Children) -> None:
    child = await children.start(SAY_PID_AND_SLEEP)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(child.watch())
        group.create_task(child.stop())

    assert not child.is_running


async def test_last_words_are_those_of_the_last_start(children: Children) -> None:
    child = await children.start("print('first')")
    await child.wait_ended()
    child.program = Program(name="part", argv=[sys.executable, "-c", "pass"])

    await child.start()
    await child.wait_ended()

    assert child.last_log_line() == "it wrote nothing"
    assert child.log_path.read_text() == "first\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
async def test_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child_fd = os.pidfd_open(int(await parent.stdout.readline()))

    parent.send_signal(signal.SIGKILL)
    await parent.communicate()

    assert _ends_within(child_fd, timeout_s=5)


def _ends_within(pid_fd: int, timeout_s: float) -> bool:
    ended, _, _ = select.select([pid_fd], [], [], timeout_s)
    os.close(pid_fd)
    return bool(ended)


async def test_obituary_quotes_the_exception_of_a_traceback(children: Children) -> None:
    code = "print('{}', flush=True)\nraise ExceptionGroup('some', [ValueError('seven is no port')])"

    child = await children.start(code)
    await child.wait_ended()

    assert child.last_log_line() == "ValueError: seven is no port"
