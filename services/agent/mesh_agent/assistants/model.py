"""Assistants as the agent's API shows them, as its database holds them, and as runs use them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from mesh_common.assistant import Member

from mesh_agent.plans.plan import RunPlan


class Source(StrEnum):
    FILE = "file"
    """A file of the operator, or the settings."""
    API = "api"


class Visibility(StrEnum):
    PRIVATE = "private"
    ORGANISATION = "organisation"


@dataclass(frozen=True, slots=True)
class Assistant:
    """One version. `created_at` and `created_by` are absent for files."""

    name: str
    version: str
    source: Source
    spec_json: str
    is_current: bool = True
    visibility: Visibility = Visibility.ORGANISATION
    is_disabled: bool = False
    created_at: datetime | None = None
    created_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class StoredAssistant:
    """One version of an assistant of the API. `user_id` is its creator."""

    id: UUID
    user_id: UUID
    name: str
    visibility: Visibility
    current_version: int
    is_disabled: bool
    version: int
    spec_json: str
    created_at: datetime
    created_by: UUID

    def shown(self) -> Assistant:
        return Assistant(
            self.name,
            str(self.version),
            Source.API,
            self.spec_json,
            self.version == self.current_version,
            self.visibility,
            self.is_disabled,
            self.created_at,
            self.created_by,
        )


@dataclass(frozen=True, slots=True, eq=False)
class RunnableAssistant:
    """What runs use. Compared by identity: one object stands for one version with the tools of this moment.

    `id` is None for files and for the settings. `members` are those that its plan does not contain yet.
    """

    name: str
    version: str
    plan: RunPlan
    id: UUID | None = None
    kind: str = "single"
    description: str = ""
    members: tuple[Member, ...] = ()
