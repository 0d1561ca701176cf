"""Settings of servers that describe their tools themselves: MCP servers, and HTTP APIs with an OpenAPI document."""

from typing import Final, Literal, Self

from pydantic import BaseModel, Field, HttpUrl, SecretStr, model_validator

SEPARATOR: Final = "__"
"""Between the name of a server and that of its tool."""


class ServerToolPolicy(BaseModel, frozen=True):
    """What the operator knows better than the server."""

    effect: Literal["none", "idempotent", "once"] | None = None
    """Effect of a second call, in place of what the server says."""
    approval: Literal["never", "always", "on_effect"] | None = None
    """Calls that a person must approve first, in place of the server's rule."""
    timeout_s: float | None = Field(default=None, gt=0.0, le=300.0)
    """Time limit of one call, in place of the server's."""


class OAuthSettings(BaseModel, frozen=True):
    """Client credentials with which the agent gets access tokens, one for all users."""

    token_url: HttpUrl
    """The authorization server's token endpoint."""
    client_id: str = Field(min_length=1, max_length=512)
    client_secret: SecretStr
    scope: str = Field(default="", max_length=2_000)
    """Scopes to ask for, separated by spaces."""
    resource: str = Field(default="", max_length=2_000)
    """The resource that tokens are for (RFC 8707)."""


class ToolServerSettings(BaseModel, frozen=True):
    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,23}$")
    """Its tools are named `<name>__<tool>`."""
    headers: dict[str, SecretStr] = Field(default_factory=dict, max_length=16)
    """Sent with each request, for example `Authorization`."""
    oauth: OAuthSettings | None = None
    """Where to get the `Authorization` of each request instead."""
    policies: dict[str, ServerToolPolicy] = Field(default_factory=dict, max_length=128)
    """By the tool's name at the server."""
    approval: Literal["never", "always", "on_effect"] = "on_effect"
    """Calls that a person must approve first, unless a policy says otherwise."""
    timeout_s: float = Field(default=30.0, gt=0.0, le=300.0)
    """Time limit of one call, unless a policy says otherwise."""

    @model_validator(mode="after")
    def _has_one_authorization(self) -> Self:
        if self.oauth and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("either `oauth` or a header Authorization may be given")
        return self

    def policy_of(self, tool: str) -> ServerToolPolicy:
        return self.policies.get(tool, _NO_POLICY)


_NO_POLICY: Final = ServerToolPolicy()


class McpServerSettings(ToolServerSettings, frozen=True):
    """One MCP server, reached by Streamable HTTP."""

    url: HttpUrl
    """Its endpoint."""
    tools: tuple[str, ...] | None = Field(default=None, max_length=128)
    """The only tools to take from it; all if absent."""


class OpenApiSettings(ToolServerSettings, frozen=True):
    """One HTTP API, described by an OpenAPI document."""

    document: str = Field(min_length=1, max_length=2_000)
    """Path of the document, or its http(s) URL: OpenAPI 3.0 or 3.1, JSON or YAML."""
    operations: tuple[str, ...] = Field(min_length=1, max_length=128)
    """Ids of the operations that become tools."""
    url: HttpUrl | None = None
    """Base URL of the API; the document's first server if absent."""
