from pydantic_settings import BaseSettings, SettingsConfigDict


class BareSettings(BaseSettings):
    """The settings of all three processes, from `BARE_*`. Addresses are `host:port`."""

    model_config = SettingsConfigDict(env_prefix="BARE_", frozen=True, use_attribute_docstrings=True)

    gateway_port: int
    agent_address: str
    memory_address: str
    database_url: str
    redis_url: str
    provider_url: str
    """Base URL of the OpenAI-compatible chat and embeddings API, with `/v1`."""
    signing_key: str
    """PEM of the key that signs tokens."""
