"""Settings of the tools that read the web (docs/tools.md). All are off by default: a cluster may have no egress."""

import re
from ipaddress import ip_network
from typing import Annotated, Final, Literal, Self

from mesh_common.process.settings import EnvironmentSettings
from pydantic import Field, HttpUrl, field_validator, model_validator

Port = Annotated[int, Field(ge=1, le=65_535)]
_HOST: Final = re.compile(r"^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$")
Backend = Literal["brave", "duckduckgo", "mojeek", "startpage", "wikipedia", "yahoo"]


class WebSettings(EnvironmentSettings):
    web_fetch: bool = False
    """Whether the agent has the tool `fetch_url`."""
    web_search_provider: Literal["searxng", "ddgs"] | None = None
    """Provider of the tool `web_search`: your SearXNG, or public search engines without a key. No tool if unset."""
    web_searxng_url: HttpUrl | None = None
    """Root URL of SearXNG, whose `search.formats` must contain `json`. Required for that provider."""
    web_ddgs_backends: tuple[Backend, ...] = Field(default=("duckduckgo", "brave", "mojeek", "wikipedia"), min_length=1)
    """JSON list of the search engines that `ddgs` asks."""
    web_search_results: int = Field(default=10, ge=1, le=25)
    """Results of one search."""
    web_search_region: str = Field(default="us-en", pattern="^[a-z]{2}-[a-z]{2,3}$")
    """Country and language of results if the model names none."""
    web_safe_search: Literal["off", "moderate", "strict"] = "moderate"
    """Filter of the search engines."""
    web_allow: tuple[str, ...] = ()
    """JSON list of hosts (with subdomains) and networks that `fetch_url` may fetch although they are private."""
    web_deny: tuple[str, ...] = ()
    """JSON list of hosts (with subdomains) and networks that `fetch_url` must not fetch. It wins over `web_allow`."""
    web_only_allowed: bool = False
    """Whether `fetch_url` may fetch nothing but what the allow list names."""
    web_ports: tuple[Port, ...] = Field(default=(80, 443), min_length=1)
    """JSON list of the ports that `fetch_url` may use."""
    web_timeout_s: float = Field(default=15.0, gt=0.0, le=28.0)
    """Time limit of one fetch or search."""
    web_max_bytes: int = Field(default=2_000_000, ge=1_024, le=10_000_000)
    """Largest page that is fetched, as sent and decompressed."""

    @field_validator("web_allow", "web_deny")
    @classmethod
    def _are_hosts_or_networks(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if not _is_network(entry) and not _is_host(entry):
                raise ValueError(f"{entry!r} is neither a host nor a network")
        return entries

    @model_validator(mode="after")
    def _provider_has_its_url(self) -> Self:
        if self.web_search_provider == "searxng" and self.web_searxng_url is None:
            raise ValueError("the provider searxng needs web_searxng_url")
        return self


def _is_network(entry: str) -> bool:
    try:
        ip_network(entry)
    except ValueError:
        return False
    return True


def _is_host(entry: str) -> bool:
    """Names in lower-case ASCII, as URLs are read. A last label of digits would be an address."""
    return bool(_HOST.match(entry)) and not entry.rpartition(".")[2].isdigit()
