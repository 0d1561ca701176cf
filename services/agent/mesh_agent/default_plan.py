"""The plan of the assistant that the settings describe."""

from collections.abc import Sequence
from dataclasses import replace

from mesh_agent.llm.registry import Model
from mesh_agent.plans.plan import Limits, RunPlan
from mesh_agent.prompts import default_instructions
from mesh_agent.settings import AgentSettings
from mesh_agent.tools.registry import ToolRegistry


class DefaultPlan:
    """All models and tools of the process, with the tools of the moment."""

    def __init__(self, settings: AgentSettings, models: Sequence[Model], tools: ToolRegistry) -> None:
        self._tools = tools
        self._plan = RunPlan(
            instructions=default_instructions(),
            models=tuple(model.planned() for model in models),
            tools=tools.planned,
            history_tokens=settings.history_tokens,
            limits=Limits(seconds=settings.run_timeout_s),
        )

    def __call__(self) -> RunPlan:
        """The same object until the tools change."""
        if self._plan.tools is not self._tools.planned:
            self._plan = replace(self._plan, tools=self._tools.planned)
        return self._plan
