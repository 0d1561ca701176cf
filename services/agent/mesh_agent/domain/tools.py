"""What a tool's call may do, and its result."""

from enum import StrEnum

from mesh_common.events import model as events

MAX_TOOL_RESULT_CHARS = 8_000
ToolResult = events.ToolResult


class Effect(StrEnum):
    """The effect of calling a tool twice (docs/tools.md)."""

    NONE = "none"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


class Approval(StrEnum):
    """Which calls of a tool a person must approve (docs/tools.md)."""

    NEVER = "never"
    ALWAYS = "always"
    ON_EFFECT = "on_effect"
    """Those that have an effect, i.e. all calls of a tool whose effect is not `none`."""
