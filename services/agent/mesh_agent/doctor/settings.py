"""The settings that name models: the agent's own, without those that only a running agent needs."""

from mesh_common.process.settings import EnvironmentSettings, settings_config
from pydantic import SecretStr

from mesh_agent.model_settings import ModelSettings


class DoctorSettings(EnvironmentSettings):
    model_config = settings_config("AGENT_")

    models: tuple[ModelSettings, ...] = ()
    """JSON list: the model registry."""
    openai_base_url: str = "https://api.openai.com/v1"
    """OpenAI-compatible API for models that set none."""
    openai_api_key: SecretStr | None = None
    """Key for this API."""
