"""What a client asks for when it starts a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mesh_common.ids import RunId

# What happens to a new run on a thread that already has an unended run.
Multitask = Literal["enqueue", "reject", "interrupt"]


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A run to be started."""

    run_id: RunId
    message: str
    metadata: Mapping[str, str]
    thread_id: str | None = None
    model: str | None = None
    multitask: Multitask = "enqueue"
    cancels_on_disconnect: bool = False
    idempotency_key: str | None = None
    is_followed: bool = True
    """False if the client does not read events after the acknowledgement."""
