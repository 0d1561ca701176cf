"""Schemathesis holds the running gateway to its OpenAPI document: whatever is sent, the answer is a documented one.

Exceptions and their reasons are in schemathesis.toml and docs/adr/0028.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

import pytest
from support.gateway import Client

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
QUICK: Final = ("--phases", "examples,fuzzing", "--max-examples", "15")
ALL: Final = ("--max-examples", "200")
# It revokes the token with which the others are tried.
LOGOUT: Final = "logout"


async def _report_of(gateway: Client, folder: Path, seed: int, *arguments: str) -> tuple[int | None, str]:
    command = [
        *("-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
        f"http://127.0.0.1:{gateway.process.port}/openapi.json",
        *("--checks", "all", "--seed", str(seed), "--workers", "1", "--no-color"),
        *("--header", f"Authorization: {gateway.as_user()['Authorization']}"),
        *arguments,
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    report, _ = await process.communicate()
    return process.returncode, report.decode()


@pytest.mark.parametrize(
    "depth",
    [
        pytest.param(QUICK, id="quick", marks=pytest.mark.timeout(300)),
        pytest.param(ALL, id="all", marks=(pytest.mark.nightly, pytest.mark.timeout(3_600))),
    ],
)
@pytest.mark.parametrize(
    "operations",
    [
        pytest.param(("--exclude-operation-id", LOGOUT), id="most"),
        pytest.param(("--include-operation-id", LOGOUT), id="logout"),
    ],
)
async def test_every_answer_is_documented(
    gateway: Client, pytestconfig: pytest.Config, tmp_path: Path, operations: tuple[str, ...], depth: tuple[str, ...]
) -> None:
    # An empty folder: schemathesis begins with the failures that an earlier run has left.
    status, report = await _report_of(gateway, tmp_path, pytestconfig.getoption("seed"), *operations, *depth)

    assert status == 0, report
