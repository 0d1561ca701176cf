"""Every command of every service reports all wrong settings at once, one per line and without secrets."""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE

import pytest

SECRET = "hush-hush"
NOWHERE = "/does/not/exist"
# A password with a character that a URL cannot contain: the text after it would be parsed as the port.
BAD_URL = f"postgresql://login:{SECRET}/1@db:5432/mesh"
LINE = re.compile(r"[A-Z][A-Z0-9_]*: \S.*")

# By service, in addition to the common ones: variables with invalid values, and variables that are missing.
OWN: dict[str, tuple[dict[str, str], set[str]]] = {
    "gateway": (
        {
            "GATEWAY_REDIS_URL": f"redis://:{SECRET}/1@redis:6379",
            "GATEWAY_TRUSTED_PROXIES": SECRET,
            "GATEWAY_CORS_ORIGINS": '{"a": 1}',
            "GATEWAY_HTTP_PORT": "70000",
        },
        set(),
    ),
    "auth": (
        {
            "AUTH_SIGNING_KEY": SECRET,
            "AUTH_PREVIOUS_SIGNING_KEY": SECRET,
            "AUTH_DEFAULT_TOOLS": f"{SECRET},b",
            "AUTH_REFRESH_TOKEN_TTL_S": "600",
        },
        set(),
    ),
    "agent": ({"AGENT_HTTP_TOOLS": f'[{{"api_key": "{SECRET}"', "AGENT_LEASE_TTL_S": "0"}, {"AGENT_MODELS"}),
    "memory": ({"MEMORY_OPENAI_BASE_URL": SECRET, "MEMORY_EMBEDDING_DIMENSIONS": "many"}, set()),
    "eval": ({"EVAL_OPENAI_BASE_URL": SECRET, "EVAL_JUDGE_TRIES": "0"}, set()),
}


async def run(module: str, *arguments: str, env: dict[str, str]) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(90):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


def wrong_environment(service: str) -> dict[str, str]:
    prefix = service.upper()
    shared = {
        "SERVICE_KEY": SECRET,
        "SERVICE_JWKS_FILE": NOWHERE,
        "GRPC_TLS_CERT_FILE": NOWHERE,
        "LOG_LEVEL": "LOUD",
        "METRICS_PORT": "-1",
        "TRACE_SAMPLE_RATIO": "2",
        "DRAIN_S": "0",
    }
    grpc = {} if service == "gateway" else {"DATABASE_URL": BAD_URL, "GRPC_PORT": "none"}
    return {f"{prefix}_{name}": value for name, value in (shared | grpc).items()} | OWN[service][0]


def require_faults(outcome: tuple[int | None, str, str], variables: set[str]) -> None:
    code, output, errors = outcome
    lines = errors.splitlines()
    assert code == 2, errors
    assert output == ""
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert {line.partition(":")[0] for line in lines} == variables
    assert SECRET not in errors


@pytest.mark.parametrize(
    ("service", "arguments"),
    [
        ("gateway", ["serve"]),
        ("auth", ["serve"]),
        ("auth", ["create-admin", "--email", "ada@example.com"]),
        ("agent", ["serve"]),
        ("memory", ["serve"]),
        ("eval", ["serve"]),
    ],
)
async def test_service_names_every_wrong_and_missing_setting(service: str, arguments: list[str]) -> None:
    env = wrong_environment(service)

    outcome = await run(f"mesh_{service}", *arguments, env=env)

    require_faults(outcome, env.keys() | OWN[service][1])


@pytest.mark.parametrize("service", ["auth", "agent", "memory", "eval"])
async def test_migrate_names_every_wrong_setting(service: str) -> None:
    prefix = service.upper()
    env = {f"{prefix}_OWNER_DATABASE_URL": BAD_URL, f"{prefix}_MIGRATION_TIMEOUT_S": "never"}

    require_faults(await run(f"mesh_{service}", "migrate", env=env), set(env))


async def test_migrate_names_the_setting_that_is_missing() -> None:
    code, output, errors = await run("mesh_eval", "migrate", env={})

    assert (code, output, errors) == (2, "", "EVAL_OWNER_DATABASE_URL: is required\n")


async def test_bootstrap_names_every_wrong_setting() -> None:
    env = {"BOOTSTRAP_ADMIN_DATABASE_URL": BAD_URL, "BOOTSTRAP_DATABASE_PASSWORDS": f'{{"{SECRET}": "auth_owner"}}'}

    require_faults(await run("mesh_admin", "bootstrap-db", env=env), set(env))


async def test_empty_environment_names_what_is_required() -> None:
    code, output, errors = await run("mesh_agent", "serve", env={})

    assert (code, output) == (2, "")
    assert errors.splitlines() == [
        "AGENT_SERVICE_KEY: is required",
        "AGENT_SERVICE_JWKS_FILE: is required",
        "AGENT_DATABASE_URL: is required",
        "AGENT_MODELS: is required",
    ]
