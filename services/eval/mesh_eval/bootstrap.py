"""Opens and wires the parts of eval, and closes them in reverse order: pool, HTTP client, worker, server."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx
from mesh.eval.v1 import eval_pb2, eval_pb2_grpc
from mesh_common.clock import SystemClock
from mesh_common.database.postgres import Database
from mesh_common.database.revisions import newest_revision
from mesh_common.database.sqlalchemy_engine import open_database
from mesh_common.grpc.service import Drain, ServiceParts, open_grpc_service
from mesh_common.jobs.servicer import PROTO_SERVICE as DEAD_LETTERS
from mesh_common.jobs.servicer import DeadLetterServicer

from mesh_eval.judges import load_judges
from mesh_eval.judges.model import OpenAIJudgeModel
from mesh_eval.servicer import EvalServicer
from mesh_eval.settings import EvalSettings
from mesh_eval.store import JOBS, PostgresUnitOfWork
from mesh_eval.usecases import JudgeRun, ListScores, SubmitRun
from mesh_eval.worker import judge_worker

MIGRATIONS: Final = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_service(settings: EvalSettings) -> AsyncIterator[Drain]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings, schema="eval"))
        http = await stack.enter_async_context(_open_http(settings))
        yield await stack.enter_async_context(open_grpc_service(settings, _parts(settings, database, http)))


def _parts(settings: EvalSettings, database: Database, http: httpx.AsyncClient) -> ServiceParts:
    uow = PostgresUnitOfWork(database)
    judge_run = JudgeRun(
        uow=uow,
        model=OpenAIJudgeModel(http, settings),
        judges=load_judges(),
        clock=SystemClock(),
        tries=settings.judge_tries,
        max_input_bytes=settings.judge_max_input_bytes,
        has_reasoning=settings.judge_max_reasoning_chars != 0,
    )
    worker = judge_worker(database, judge_run, settings)
    servicer = EvalServicer(SubmitRun(uow, worker.wake, settings.max_queued_runs_per_user), ListScores(uow))
    letters = DeadLetterServicer(database, JOBS.table)
    revision = newest_revision(MIGRATIONS)
    return ServiceParts(
        service="eval",
        proto_services=(eval_pb2.DESCRIPTOR.services_by_name["EvalService"].full_name, DEAD_LETTERS),
        register=letters.beside(partial(eval_pb2_grpc.add_EvalServiceServicer_to_server, servicer)),
        readiness=(lambda: database.not_ready_reason(revision),),
        background=(worker.run,),
    )


def _open_http(settings: EvalSettings) -> httpx.AsyncClient:
    key = settings.openai_api_key
    return httpx.AsyncClient(
        base_url=settings.openai_base_url,
        headers={"authorization": f"Bearer {key.get_secret_value()}"} if key else {},
        timeout=settings.judge_timeout_s,
        limits=httpx.Limits(max_connections=settings.runs_at_once),
        # Users' texts must go only where our settings say, not through a proxy that the environment names.
        trust_env=False,
    )
