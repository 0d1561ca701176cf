"""The input of scripts/compose to Compose, and the configuration that Compose reads from it."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from mesh_admin.bootstrap_db import SCHEMAS
from mesh_admin.secrets import make_secrets, write_dotenv

from deploy.programs import ROOT, MissingProgram, program

type Service = dict[str, Any]

ENVIRONMENTS: Final = ("development", "production")
JOBS: Final = ("bootstrap-db", *(f"migrate-{schema}" for schema in SCHEMAS))
FOLDER: Final = ROOT / "deploy/compose"
SCRIPT: Final = ROOT / "scripts/compose"
_PATIENCE_S: Final = 60


def run_script(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Runs scripts/compose with these settings and without those of the caller."""
    # The caller's own settings would change what is tested.
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"} | settings
    return subprocess.run(
        [SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
    )


@cache
def configuration(environment: str, **settings: str) -> dict[str, Any]:
    """The whole configuration as Compose reads it. Do not modify it. Skips the test without docker-compose."""
    try:
        compose = program("docker-compose")
    except MissingProgram as error:
        pytest.skip(str(error))
    folder = str(full_folder())
    ran = run_script("config", environment, "--format=json", COMPOSE=compose, **({"SECRETS": folder} | settings))
    assert ran.returncode == 0, ran.stderr
    parsed: dict[str, Any] = json.loads(ran.stdout)
    return parsed


def full_folder() -> Path:
    """The secrets of a production that was started once, with a certificate. Do not modify them."""
    return Path(_kept_folder().name) / "secrets"


def copy_of_full_folder(target: Path) -> Path:
    return Path(shutil.copytree(full_folder(), target / "secrets"))


@cache
def _kept_folder() -> "TemporaryDirectory[str]":
    """Deleted when the process ends."""
    kept = TemporaryDirectory(prefix="mesh-compose-")
    folder = Path(kept.name) / "secrets"
    write_dotenv(make_secrets(), folder, database="postgres:5432", redis="redis:6379")
    (folder / "grafana.env").write_text("GF_SECURITY_ADMIN_PASSWORD=of-this-mesh\n")
    (folder / "tls").mkdir()
    for name in ("tls.crt", "tls.key"):
        (folder / "tls" / name).write_text("looked at by nginx alone\n")
    return kept
