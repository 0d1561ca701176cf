"""The settings shown in docs/tools.md are valid."""

import re
from pathlib import Path

from mesh_agent.settings import HttpToolSettings
from mesh_agent.tool_server_settings import McpServerSettings, OpenApiSettings
from pydantic import TypeAdapter

_DOC = Path(__file__).parents[3] / "docs" / "tools.md"


def test_example_of_the_docs_is_a_valid_setting() -> None:
    block, _, _ = _blocks()

    [tool] = TypeAdapter(tuple[HttpToolSettings, ...]).validate_json(block)

    assert (tool.name, tool.effect) == ("book_room", "once")
    assert HttpToolSettings.model_fields["effect"].default == "once"


def test_example_of_an_mcp_server_is_a_valid_setting() -> None:
    _, block, _ = _blocks()

    [server] = TypeAdapter(tuple[McpServerSettings, ...]).validate_json(block)

    assert (server.name, server.approval) == ("github", "on_effect")
    assert server.policies["create_issue"].approval == "always"


def test_example_of_an_openapi_document_is_a_valid_setting() -> None:
    _, _, block = _blocks()

    [api] = TypeAdapter(tuple[OpenApiSettings, ...]).validate_json(block)

    assert (api.name, api.operations, api.approval) == ("crm", ("customers/get", "createTicket"), "on_effect")
    assert api.policy_of("createTicket").approval == "always"


def _blocks() -> list[str]:
    return re.findall(r"^```json\n(.*?)^```", _DOC.read_text(), re.MULTILINE | re.DOTALL)
