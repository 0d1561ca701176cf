"""What mem0 reads from the environment while it is imported. Import this module before mem0.

mem0 2.2.1 reports every use to its makers unless `MEM0_TELEMETRY` says no, and makes a folder at import: by default
in the home of the user, which a pod with a read-only root does not have. Nothing of ours is kept in that folder.
"""

import os
import tempfile
from typing import Final

FOLDER: Final = tempfile.TemporaryDirectory(prefix="mesh-mem0-")
"""Removed when the process ends."""

os.environ["MEM0_TELEMETRY"] = "false"  # noqa: TID251 - mem0 takes it from nowhere else
os.environ["MEM0_DIR"] = FOLDER.name  # noqa: TID251 - mem0 takes it from nowhere else
