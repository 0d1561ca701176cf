"""The garbage collector during a start and after it."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from mesh_common.grpc.service import Drain
from mesh_common.process.collector import pause_collector, resume_collector
from mesh_common.process.serve import serve_until_signal


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.enable()


async def test_a_service_collects_again_once_it_is_open() -> None:
    collects: list[bool] = []

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Drain]:
        collects.append(gc.isenabled())
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)

        async def drain() -> None:
            collects.append(gc.isenabled())

        yield drain

    pause_collector()
    await serve_until_signal(open_service)

    assert collects == [False, True]


def test_objects_created_by_the_start_are_not_scanned_again() -> None:
    pause_collector()
    resume_collector()

    assert gc.get_freeze_count() > 0


def test_a_service_looks_for_cycles_less_often_than_python_does() -> None:
    usual, _, _ = gc.get_threshold()
    pause_collector()
    resume_collector()

    assert gc.get_threshold()[0] > usual


def test_a_process_that_never_paused_is_left_as_it_is() -> None:
    gc.unfreeze()
    usual = gc.get_threshold()

    resume_collector()

    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == usual
