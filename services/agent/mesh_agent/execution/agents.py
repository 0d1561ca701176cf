"""What each agent of a run does, recorded under its name."""

import time
from collections.abc import Callable

from mesh_common.events.model import EventBody, MemberCompleted, MemberDelta
from mesh_common.ids import new_id

from mesh_agent.domain.attempts import CutRound
from mesh_agent.domain.runs import Usage
from mesh_agent.domain.tools import ToolResult
from mesh_agent.events.coalescing import until_tick_s
from mesh_agent.execution.aside import Aside
from mesh_agent.execution.recorder import Recorder
from mesh_agent.llm.registry import Model
from mesh_agent.tools.call import ToolCall


class MemberAside(Aside):
    """A member's answer to another agent: streamed as the member's, and no part of the run's answer."""

    def __init__(self, agent: str, emit: Callable[[EventBody], None]) -> None:
        super().__init__()
        self.agent = agent
        self._emit = emit
        self._message_id = str(new_id())
        self._pending: list[str] = []
        self._has_text = False

    def on_text(self, text: str, chunks: int = 1) -> None:
        super().on_text(text, chunks)
        self._pending.append(text)
        if not self._has_text:
            self._has_text = True
            self._emit_text()

    def until_tick_s(self) -> float:
        self._emit_text()
        return until_tick_s(time.monotonic())

    def end_round(self, usage: Usage) -> None:
        super().end_round(usage)
        self._complete()

    def cut_round(self) -> CutRound:
        cut = super().cut_round()
        self._complete()
        return cut

    def _complete(self) -> None:
        self._emit_text()
        if self._has_text:
            self._emit(MemberCompleted(self._message_id, self.agent, self.text, self.model))

    def _emit_text(self) -> None:
        if self._pending:
            self._emit(MemberDelta(self._message_id, self.agent, "".join(self._pending)))
            self._pending.clear()


class AgentListener:
    """Receives the progress of one agent, for the recorder of its run. The run's own assistant has no name."""

    def __init__(self, recorder: Recorder, name: str = "") -> None:
        self._recorder = recorder
        self._name = name

    @property
    def forget_generation(self) -> int | None:
        return self._recorder.forget_generation

    @property
    def answer(self) -> str:
        return self._recorder.answer

    def member(self, name: str) -> "AgentListener":
        return AgentListener(self._recorder, name)

    def aside(self) -> Aside:
        """Streamed as the member's; nobody sees what the run's own assistant says aside."""
        if not self._name:
            return self._recorder.add_aside(Aside())
        return self._recorder.add_aside(MemberAside(self._name, self._recorder.emit))

    def repeat_aside(self, text: str, model: str) -> None:
        if self._name:
            self._recorder.emit(MemberCompleted(str(new_id()), self._name, text, model))

    def tool_started(self, call: ToolCall) -> None:
        self._recorder.tool_started(call, self._name)

    def tool_finished(self, call: ToolCall, result: ToolResult) -> None:
        self._recorder.tool_finished(call, result, self._name)

    def tool_paused(self, call: ToolCall) -> None:
        self._recorder.tool_paused(call)

    # Rounds for the user.

    def begin_round(self, prompt_tokens: Callable[[], int]) -> None:
        self._recorder.begin_round(prompt_tokens, self._name)

    def on_model(self, model: Model) -> None:
        self._recorder.on_model(model)

    def on_text(self, text: str, chunks: int = 1) -> None:
        self._recorder.on_text(text, chunks)

    def until_tick_s(self) -> float:
        return self._recorder.until_tick_s()

    def end_round(self, usage: Usage) -> None:
        self._recorder.end_round(usage)

    def cut_round(self) -> CutRound:
        return self._recorder.cut_round()

    def fail_round(self) -> None:
        self._recorder.fail_round()

    # What only graphs in code do.

    def say(self, text: str) -> None:
        self._recorder.say(text)

    def step_started(self, step: str) -> None:
        self._recorder.step_started(step)

    def step_finished(self, step: str) -> None:
        self._recorder.step_finished(step)

    def custom(self, name: str, data_json: str) -> None:
        self._recorder.custom(name, data_json)
