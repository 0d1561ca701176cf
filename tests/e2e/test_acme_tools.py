"""examples/acme-tools through the whole mesh, installed as its documentation says."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from mesh_dev.stack import Stack
from support.api import User
from support.doc_blocks import ROOT
from support.installed_example import install_example
from support.net import free_port
from support.stack import open_stack

EXAMPLE = ROOT / "examples" / "acme-tools"


@dataclass
class Orders:
    """A service with one order. It records refunds with their keys."""

    url: str
    refunds: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def read(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != "A-1042":
            return web.Response(status=404)
        return web.json_response({"state": "shipped", "total_cents": 4_990})

    async def refund(self, request: web.Request) -> web.Response:
        self.refunds.append((request.headers["Idempotency-Key"], await request.json()))
        return web.Response(status=201)


@asynccontextmanager
async def running_orders() -> AsyncIterator[Orders]:
    port = free_port()
    orders = Orders(f"http://127.0.0.1:{port}")
    application = web.Application()
    application.router.add_get("/orders/{id}", orders.read)
    application.router.add_post("/orders/{id}/refunds", orders.refund)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield orders
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
async def orders() -> AsyncIterator[Orders]:
    async with running_orders() as running:
        yield running


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory, mesh_template: Path, orders: Orders) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("acme")
    packages = await install_example(EXAMPLE.name, folder / "packages")
    environment = {
        "PYTHONPATH": str(packages),
        "AGENT_ASSISTANTS_DIR": str(EXAMPLE),
        "ACME_ORDERS_URL": orders.url,
    }
    async with open_stack(folder, mesh_template, service_env={"agent": environment}) as running:
        yield running


def _message(tool: str, **arguments: object) -> dict[str, str]:
    message = f"[[sim:tool={tool} {json.dumps(arguments)}]] [[sim:reply=It says: {{tool_result}}]]"
    return {"message": message, "assistant": "shop"}


@pytest.mark.parametrize(
    ("tool", "arguments", "answer"),
    [
        ("order_status", {"order_id": "A-1042"}, 'It says: {"state":"shipped","total_cents":4990}'),
        ("order_status", {"order_id": "A-9999"}, "It says: There is no order A-9999."),
        ("shipping_cost", {"country": "JP", "weight_g": 1_500}, "It says: 13.50 EUR"),
    ],
)
async def test_tools_of_the_package_answer(user: User, tool: str, arguments: dict[str, object], answer: str) -> None:
    body = (await user.post("/chatbot/chat", _message(tool, **arguments))).json()

    assert body["message"]["content"] == answer


async def test_arguments_that_do_not_fit_reach_no_tool(user: User) -> None:
    body = (await user.post("/chatbot/chat", _message("order_status", order_id="1042; DROP TABLE orders"))).json()

    assert body["message"]["content"].startswith("It says: The arguments are not valid: order_id: ")


async def test_refund_is_made_once_as_a_person_edited_it(user: User, orders: Orders) -> None:
    turn = await user.stream("/chatbot/chat/stream", _message("refund_order", order_id="A-1042", amount_cents=4_990))
    [asked] = turn.first("run_interrupted")["interrupts"]
    refunds_before = list(orders.refunds)
    arguments = {"order_id": "A-1042", "amount_cents": 1_000}
    decision = {"call_id": asked["call_id"], "decision": "edit", "arguments": arguments}

    resumed = await user.stream(f"/runs/{turn.run_id}/resume/stream", {"decisions": [decision]})

    [(key, refund)] = orders.refunds
    me = (await user.get("/auth/me")).json()
    assert refunds_before == []
    assert (asked["tool"], asked["arguments"]) == ("refund_order", {"order_id": "A-1042", "amount_cents": 4_990})
    assert refund == {"amount_cents": 1_000, "requested_by": me["id"]}
    assert key.startswith(f"{resumed.run_id}:")
    assert resumed.text.endswith("Refunded 10.00 EUR.")
