"""The settings of the embedded stack."""

from pathlib import Path

from pydantic import Field, HttpUrl, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mesh_dev.ports import PORTS_PER_STACK


class DevSettings(BaseSettings):
    """Read from the environment, prefix `MESH_`. The two OpenAI variables have the names that OpenAI's tools use."""

    model_config = SettingsConfigDict(env_prefix="MESH_", env_ignore_empty=True, frozen=True, populate_by_name=True)

    port_base: int = Field(default=8000, ge=1024, le=65536 - PORTS_PER_STACK)
    """The gateway's port. All other ports follow it (ports.py)."""

    data_dir: Path = Path(".mesh")
    """Folder with the database, keys and logs of one stack. Each stack needs its own."""

    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    """If set, OpenAI replaces the embedded model."""

    openai_base_url: HttpUrl | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    """Another OpenAI-compatible server."""

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, data_dir: Path) -> Path:
        # Absolute, because child processes and PostgreSQL may run in other folders.
        return data_dir.expanduser().resolve()
