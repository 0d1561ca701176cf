"""`make dev`: runs the stack until it is stopped, and shows how to use it."""

import shlex

from mesh_common.grpc.edges import SERVICES

from mesh_dev.console import Stopwatch, say
from mesh_dev.mesh_client import API
from mesh_dev.models import model_source_of
from mesh_dev.settings import DevSettings
from mesh_dev.stack import Stack, StackOptions

EMAIL = "ada@example.com"
PASSWORD = "violet harbour lantern 27"  # noqa: S105 - of a user on this machine only
READ_TOKEN = """python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'"""  # noqa: S105 - a command


async def run_dev(settings: DevSettings) -> None:
    """Starts the stack and runs it until cancelled.

    Raises:
        DevError: it did not start, or a part died.
    """
    watch = Stopwatch()
    options = StackOptions(settings=settings, models=model_source_of(settings))
    async with Stack(options) as stack:
        say(f"\nAgent Mesh is ready after {watch.elapsed_s:.1f} s.\n")
        say(_addresses(stack))
        if purpose := stack.environments.models.purpose:
            say(f"\n{purpose}")
        say("\nTry it in another terminal:\n")
        for command in ready_made_commands(stack.url):
            say(f"  {command}\n")
        say("Press Ctrl-C to stop it; the data is kept.")
        await stack.watch()


def ready_made_commands(url: str) -> list[str]:
    """Commands that register, log in and chat by SSE, to paste into one shell in this order."""
    account = shlex.quote(f'{{"email": "{EMAIL}", "password": "{PASSWORD}"}}')
    message = shlex.quote('{"message": "Hello! My name is Ada and I live in Lyon."}')
    json_type = "-H 'content-type: application/json'"
    form = f"-d username={EMAIL} --data-urlencode 'password={PASSWORD}'"
    return [
        f"curl -s {url}{API}/auth/register {json_type} -d {account}",
        f"TOKEN=$(curl -s {url}{API}/auth/login {form} | {READ_TOKEN})",
        f'curl -sN {url}{API}/chatbot/chat/stream -H "authorization: Bearer $TOKEN" {json_type} -d {message}',
    ]


def _addresses(stack: Stack) -> str:
    metrics = stack.metrics_urls
    lines = [
        f"  API       {stack.url}{API}",
        f"  OpenAPI   {stack.url}/openapi.json",
        *(f"  metrics   {metrics[name]}  ({name})" for name in SERVICES),
        f"  traces    make trace ID=<trace or run id>   ({stack.traces_url})",
        f"  model     {', '.join(entry.name for entry in stack.environments.models.entries)}",
        f"  logs      {stack.log_dir}",
    ]
    return "\n".join(lines)
