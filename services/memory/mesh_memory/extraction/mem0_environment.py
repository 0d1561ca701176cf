"""Sets the environment variables that mem0 reads at import. Import this module before mem0.

mem0 2.2.1 sends usage data to its vendor unless `MEM0_TELEMETRY` is false. It also creates a folder at import, by
default in the user's home, which is not writable in a pod with a read-only root. We store nothing in that folder.
"""

import os
import tempfile
from typing import Final

FOLDER: Final = tempfile.TemporaryDirectory(prefix="mesh-mem0-")
"""Deleted when the process ends."""

os.environ["MEM0_TELEMETRY"] = "false"  # noqa: TID251 - mem0 has no other way to set it
os.environ["MEM0_DIR"] = FOLDER.name  # noqa: TID251 - mem0 has no other way to set it
