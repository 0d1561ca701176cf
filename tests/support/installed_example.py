"""Installs a package of examples/ as its documentation says, into a folder of its own."""

import asyncio
import subprocess
import sys
from pathlib import Path

from support.doc_blocks import ROOT

_UV = ROOT / ".mesh" / "tools" / "bin" / "uv"
_OPTIONS = ("--quiet", "--no-deps", "--no-build-isolation")


async def install_example(name: str, folder: Path) -> Path:
    """The folder to put on the PYTHONPATH."""
    command = [str(_UV), "pip", "install", *_OPTIONS, "--python", sys.executable, "--target", str(folder)]
    await asyncio.to_thread(subprocess.run, [*command, str(ROOT / "examples" / name)], check=True, timeout=120)
    return folder
