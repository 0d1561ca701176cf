"""A large OpenAPI document that FastAPI makes, the gateway's own, as tools."""

from typing import Any

from fastapi import FastAPI
from mesh_agent.tools.openapi.operations import find_operation
from mesh_agent.tools.schema import foreign_schema_fault
from mesh_gateway.app import build_app
from mesh_gateway.edge.deps import Gateway
from mesh_gateway.settings import GatewaySettings


def test_every_operation_of_the_gateway_can_be_a_tool() -> None:
    fields: dict[str, Any] = dict.fromkeys(Gateway.__dataclass_fields__)
    fields["settings"] = GatewaySettings.model_construct()
    app: FastAPI = build_app(Gateway(**fields))
    document = app.openapi()
    ids = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict) and "operationId" in operation
    ]

    faults = {one: foreign_schema_fault(find_operation(document, one).schema) for one in ids}

    assert len(ids) > 40
    assert {one: fault for one, fault in faults.items() if fault} == {}
