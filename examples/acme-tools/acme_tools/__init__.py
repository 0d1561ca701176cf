"""Tools of a shop: look an order up, refund it after approval, and compute what its shipment costs."""

import json
from http import HTTPStatus
from typing import Annotated, Any, Literal

import aiohttp
from mesh_agent.sdk import Call, ToolError, UnknownOutcomeError, tool
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from yarl import URL

_TIMEOUT = aiohttp.ClientTimeout(total=15)
_CENTS_A_KG = {"DE": 120, "FR": 180, "JP": 900}

OrderId = Annotated[str, Field(pattern=r"^A-[0-9]{4,8}$", description="As on the invoice, for example A-1042")]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ACME_")

    orders_url: str
    """Address of the service that knows the orders."""


@tool(effect="none")
async def order_status(order_id: OrderId) -> dict[str, Any]:
    """Looks up an order: its state, items and total in cents."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(_order(order_id)) as response:
        if response.status == HTTPStatus.NOT_FOUND:
            raise ToolError(f"There is no order {order_id}.")
        response.raise_for_status()
        found: dict[str, Any] = await response.json()
        return found


@tool(effect="once", approval="always", timeout_s=20)
async def refund_order(order_id: OrderId, amount_cents: Annotated[int, Field(ge=1, le=1_000_000)], call: Call) -> str:
    """Refunds a part of an order, or all of it, to whoever paid it."""
    body = {"amount_cents": amount_cents, "requested_by": str(call.user_id)}
    headers = {"Idempotency-Key": call.key, "Content-Type": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.post(_order(order_id) / "refunds", data=json.dumps(body), headers=headers) as response,
        ):
            text = await response.text()
    except aiohttp.ClientConnectorError as error:
        raise ToolError("The orders cannot be reached; nothing was refunded.") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UnknownOutcomeError("The orders did not answer; it is unknown whether the refund was made.") from error
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise UnknownOutcomeError(f"The orders failed; it is unknown whether the refund was made: {text}")
    if response.status >= HTTPStatus.BAD_REQUEST:
        raise ToolError(f"The refund was refused: {text}")
    return f"Refunded {amount_cents / 100:.2f} EUR."


@tool(effect="none")
def shipping_cost(country: Literal["DE", "FR", "JP"], weight_g: Annotated[int, Field(gt=0, le=30_000)]) -> str:
    """Computes what a shipment costs."""
    return f"{_CENTS_A_KG[country] * weight_g / 100_000:.2f} EUR"


def _order(order_id: str) -> URL:
    return URL(Settings().orders_url) / "orders" / order_id
