"""Models and usage."""

from typing import Annotated

from fastapi import APIRouter, Query

from mesh_gateway.edge.costs import ReaderDep
from mesh_gateway.edge.deps import GatewayDep
from mesh_gateway.edge.patterns import MONTH
from mesh_gateway.protocols.native import answers
from mesh_gateway.protocols.native.routes.docs import problems
from mesh_gateway.protocols.native.schemas.catalogue import Models, MonthUsage

router = APIRouter(prefix="/api/v1", tags=["models and usage"])

Month = Annotated[
    str | None,
    Query(
        pattern=MONTH,
        description="`YYYY-MM` in UTC; absent means the current month.",
        examples=["2026-11"],
    ),
]


@router.get("/models", summary="List the models you may use, in fallback order", responses=problems(401, 429))
async def list_models(gateway: GatewayDep, caller: ReaderDep) -> Models:
    return answers.models(await gateway.agent.models(caller.subject))


@router.get("/usage", summary="Get the tokens and cost of a month, by model", responses=problems(401, 422, 429))
async def get_usage(gateway: GatewayDep, caller: ReaderDep, month: Month = None) -> MonthUsage:
    return answers.month_usage(await gateway.auth.usage(caller.subject, month))
