"""Secrets that are stored in a data folder and reused by later starts."""

import os
import secrets
from pathlib import Path

SECRET_BYTES = 24


def read_or_make_secret(path: Path) -> str:
    """The secret in the file. If the file does not exist, creates it, readable only by its owner."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(SECRET_BYTES))
    return path.read_text().strip()


def write_private(path: Path, content: str) -> None:
    """Writes the file atomically, readable only by its owner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)
    unfinished.replace(path)
