from pydantic_settings import BaseSettings, SettingsConfigDict


class BareSettings(BaseSettings):
    """All three processes' settings, from `BARE_*`; addresses are `host:port`."""

    model_config = SettingsConfigDict(env_prefix="BARE_", frozen=True, use_attribute_docstrings=True)

    gateway_port: int
    agent_address: str
    memory_address: str
    database_url: str
    redis_url: str
    provider_url: str
    """OpenAI-compatible, chat and embeddings, up to `/v1`."""
    signing_key: str
    """PEM of the key that tokens are signed with."""
