"""Settings of MCP servers whose tools the agent has."""

from typing import Final, Literal

from pydantic import BaseModel, Field, HttpUrl, SecretStr

SEPARATOR: Final = "__"
"""Between the name of a server and that of its tool."""


class McpToolPolicy(BaseModel, frozen=True):
    """What the operator knows better than the server's annotations."""

    effect: Literal["none", "idempotent", "once"] | None = None
    """Effect of a second call, in place of the annotation's."""
    approval: Literal["never", "always", "on_effect"] | None = None
    """Calls that a person must approve first, in place of the server's rule."""
    timeout_s: float | None = Field(default=None, gt=0.0, le=300.0)
    """Time limit of one call, in place of the server's."""


class McpServerSettings(BaseModel, frozen=True):
    """One server, reached by Streamable HTTP."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,23}$")
    """Its tools are named `<name>__<tool>`."""
    url: HttpUrl
    """Its endpoint."""
    headers: dict[str, SecretStr] = Field(default_factory=dict, max_length=16)
    """Sent with each request, for example `Authorization`."""
    tools: tuple[str, ...] | None = Field(default=None, max_length=128)
    """The only tools to take from it; all if absent."""
    policies: dict[str, McpToolPolicy] = Field(default_factory=dict, max_length=128)
    """By the tool's name at the server."""
    approval: Literal["never", "always", "on_effect"] = "on_effect"
    """Calls that a person must approve first, unless a policy says otherwise."""
    timeout_s: float = Field(default=30.0, gt=0.0, le=300.0)
    """Time limit of one call, unless a policy says otherwise."""
