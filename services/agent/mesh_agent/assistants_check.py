"""`python -m mesh_agent assistants-check`: validates a folder of assistants without a running service."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from langgraph.checkpoint.memory import InMemorySaver
from mesh_common.assistant import NamedAssistantSpec
from mesh_common.errors import FieldFault
from mesh_common.process.logs import configure_logs
from mesh_common.process.settings import EnvironmentSettings, load_settings, settings_config

from mesh_agent.assistants.files import FileFault, read_folder
from mesh_agent.assistants.planning import Planner
from mesh_agent.graph.coded.definitions import installed_graphs
from mesh_agent.model_settings import ModelSettings
from mesh_agent.plans.plan import Instructions, PlannedModel, PlannedTool, RunPlan
from mesh_agent.settings import HttpToolSettings
from mesh_agent.tool_server_settings import McpServerSettings, OpenApiSettings
from mesh_agent.tools.coded.installed import installed_tools
from mesh_agent.tools.memory import NAMES as MEMORY_TOOLS

_ALWAYS: Final = ("current_time", "calculate")


class CheckSettings(EnvironmentSettings):
    """The agent's own settings that name what assistants may use."""

    model_config = settings_config("AGENT_")

    models: tuple[ModelSettings, ...] = ()
    """JSON list: the model registry. Without it, names of models are not checked."""
    http_tools: tuple[HttpToolSettings, ...] = ()
    """JSON list: tools in addition to the built-in ones."""
    mcp_servers: tuple[McpServerSettings, ...] = ()
    """JSON list: MCP servers. Which tools they have is not checked."""
    openapi: tuple[OpenApiSettings, ...] = ()
    """JSON list: HTTP APIs with an OpenAPI document. Which tools they have is not checked."""
    ask_user: bool = False
    """Whether there is the tool `ask_user`."""
    memory_tools: bool = False
    """Whether there are the tools for memory."""
    web_fetch: bool = False
    """Whether there is the tool `fetch_url`."""
    web_search_provider: str | None = None
    """Whether there is the tool `web_search`."""
    assistants_dir: Path = Path("assistants")
    """The folder."""

    def tools(self) -> Iterator[str]:
        yield from _ALWAYS
        yield from (tool.name for tool in self.http_tools)
        yield from ("ask_user",) if self.ask_user else ()
        yield from MEMORY_TOOLS if self.memory_tools else ()
        yield from ("fetch_url",) if self.web_fetch else ()
        yield from ("web_search",) if self.web_search_provider else ()


class _CheckPlanner(Planner):
    """Knows names alone."""

    def faults(self, spec: NamedAssistantSpec) -> Iterator[FieldFault]:
        for fault in super().faults(spec):
            if self.base().models or not fault.field.startswith("models."):
                yield fault


def assistants_check_main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(arguments)
    configure_logs("agent", "ERROR")
    settings = load_settings(CheckSettings)
    folder = options.folder or settings.assistants_dir
    try:
        read = read_folder(folder, _planner(settings))
    except OSError as error:
        sys.exit(f"{folder}: {error.strerror}")
    sys.stdout.write("".join(f"{name}: {one.file}, version {one.version}\n" for name, one in read.assistants.items()))
    if read.faults:
        sys.exit("\n".join(map(str, _in_order(read.faults))))
    if not read.assistants:
        sys.exit(f"{folder} contains no assistant: name one file NAME.yaml")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="mesh_agent assistants-check",
        description="Validates all files of a folder of assistants, and names the tools, models and graphs that the "
        "service with these AGENT_* variables would not have.",
        epilog="Exit status: 0 if all files are valid, 1 otherwise.",
    )
    made.add_argument("folder", nargs="?", type=Path, help="AGENT_ASSISTANTS_DIR, or `assistants`, if absent")
    return made


def _planner(settings: CheckSettings) -> Planner:
    models = tuple(PlannedModel(model.name, 1, 1) for model in settings.models)
    names = tuple(settings.tools())
    coded = (tool.name for tool in installed_tools(names))
    tools = tuple(PlannedTool(name, {}) for name in (*names, *coded))
    plan = RunPlan(Instructions(""), models, tools)
    servers = tuple(server.name for server in (*settings.mcp_servers, *settings.openapi))
    return _CheckPlanner(lambda: plan, installed_graphs(InMemorySaver()), servers)


def _in_order(faults: Sequence[FileFault]) -> list[FileFault]:
    return sorted(faults, key=lambda fault: (fault.file, fault.line))
