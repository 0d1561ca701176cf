from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from simulator.pacing import PaceKind
from simulator.rules import FaultKind

Probability = Annotated[float, Field(ge=0, le=1)]


class SimulatorSettings(BaseSettings):
    """Every field is an environment variable (`SIM_ITL_MS`) and a flag (`--itl-ms`); flags win."""

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
    """Port to listen on; 0 takes a free one, which the ready line names."""
    seed: int = 0
    """Decides words, structured answers, jitter and random faults: same seed, same requests, same answers."""
    tokens: int = Field(default=100, ge=1, le=100_000)
    """Length of an answer that nothing else decides, in tokens."""
    ttft_ms: float = Field(default=0, ge=0)
    """Time to the first token, milliseconds; 0 together with itl_ms 0 is unpaced: the whole answer in one burst."""
    itl_ms: float = Field(default=0, ge=0)
    """Time between tokens, milliseconds; 20 is 50 tokens a second."""
    pace: PaceKind = "constant"
    """Constant gaps, or lognormal ones with the same mean."""
    pace_sigma: float = Field(default=0.5, ge=0, le=2)
    """Shape of the lognormal gaps; 0.5 gives a p99 of about 2.8 times the mean."""
    tick_ms: float = Field(default=1, ge=0, le=100)
    """Tokens that fall due within one tick share a wake-up; 0 gives each token a timer of the event loop."""
    models: list[str] = ["sim-large", "sim-small", "sim-embedding"]
    """Names that /v1/models lists. Requests may name any model."""
    embedding_dimensions: int = Field(default=384, ge=1, le=4096)
    """Length of a vector when the request does not say."""
    embedding_ms: float = Field(default=0, ge=0)
    """Time an embedding request takes, milliseconds."""
    fault_rates: dict[FaultKind, Probability] = {}
    """Share of chat requests that fail, by kind, drawn with the seed: {"500": 0.01, "cut": 0.02}."""
    request_log: int = Field(default=500, ge=0, le=100_000)
    """How many of the last requests /_sim/requests keeps (and at most 32 MiB of bodies)."""
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    """Larger request bodies get 413."""
