from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from simulator.pacing import PaceKind
from simulator.rules import FaultKind

Probability = Annotated[float, Field(ge=0, le=1)]


class SimulatorSettings(BaseSettings):
    """Every field is an environment variable (`SIM_ITL_MS`) and a flag (`--itl-ms`). Flags take precedence."""

    model_config = SettingsConfigDict(
        env_prefix="SIM_",
        frozen=True,
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_prog_name="python -m simulator",
        cli_shortcuts={"ttft-ms": "ttft", "itl-ms": "itl"},
        cli_avoid_json=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8090, ge=0, le=65535)
    """Port to listen on; 0 picks a free port, which the ready line names."""
    seed: int = 0
    """Determines words, structured answers, jitter and random faults: same seed, same requests, same answers."""
    tokens: int = Field(default=100, ge=1, le=100_000)
    """Default length of an answer, in tokens."""
    ttft_ms: float = Field(default=0, ge=0)
    """Time to the first token, in milliseconds. If this and itl_ms are 0, the whole answer is sent in one burst."""
    itl_ms: float = Field(default=0, ge=0)
    """Time between tokens, in milliseconds; 20 is 50 tokens per second."""
    pace: PaceKind = "constant"
    """Constant gaps, or lognormal ones with the same mean."""
    pace_sigma: float = Field(default=0.5, ge=0, le=2)
    """Shape of the lognormal gaps; 0.5 gives a p99 of about 2.8 times the mean."""
    tick_ms: float = Field(default=1, ge=0, le=100)
    """Tokens due within one tick share a wake-up; 0 gives each token its own timer of the event loop."""
    models: list[str] = ["sim-large", "sim-small", "sim-embedding"]
    """Names listed by /v1/models. Requests may use any model name."""
    embedding_dimensions: int = Field(default=384, ge=1, le=4096)
    """Default length of a vector."""
    embedding_ms: float = Field(default=0, ge=0)
    """Duration of an embedding request, in milliseconds."""
    fault_rates: dict[FaultKind, Probability] = {}
    """Fraction of chat requests that fail, by kind, drawn with the seed: {"500": 0.01, "cut": 0.02}."""
    request_log: int = Field(default=500, ge=0, le=100_000)
    """Number of latest requests in /_sim/requests (with at most 32 MiB of bodies)."""
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    """Larger request bodies get a 413."""
