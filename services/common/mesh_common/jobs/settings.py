"""Settings of a service that processes a job queue."""

from dataclasses import dataclass
from typing import Final

from pydantic import Field

from mesh_common.process.settings import GrpcSettings

_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How long a failing job is retried, and which dead letters are kept."""

    retry_for_s: float
    keep_dead_s: float
    max_dead: int


class JobSettings(GrpcSettings):
    """Additional settings of a service with a job queue."""

    job_retry_days: float = Field(default=3.0, gt=0.0, le=15.0)
    """How long a background job that fails is retried, in days. After that it is kept as a dead letter."""
    dead_letter_days: float = Field(default=30.0, gt=0.0, le=60.0)
    """How long a dead letter can be sent again, in days. After that it is deleted."""
    max_dead_letters: int = Field(default=100_000, ge=0)
    """Dead letters that are kept; beyond that the oldest are deleted."""

    def job_limits(self) -> JobLimits:
        return JobLimits(self.job_retry_days * _DAY_S, self.dead_letter_days * _DAY_S, self.max_dead_letters)
