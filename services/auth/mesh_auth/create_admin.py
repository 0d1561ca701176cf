"""`create-admin`: creates the first administrator, even if registration is closed.

The password is read from the first line of standard input, or generated and printed once.
"""

import argparse
import asyncio
import secrets
import sys
from collections.abc import Sequence

from mesh_common.errors import MeshError
from mesh_common.process.logs import configure_logs
from mesh_common.process.settings import load_settings
from mesh_common.process.signals import end_on_sigterm

from mesh_auth.bootstrap import open_registration
from mesh_auth.convert import new_credentials
from mesh_auth.settings import AuthSettings

_PASSWORD_BYTES = 24


def create_admin_main(arguments: Sequence[str]) -> None:
    end_on_sigterm()
    parser = argparse.ArgumentParser(prog="mesh_auth create-admin", description=__doc__)
    parser.add_argument("--email", required=True)
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    options = parser.parse_args(arguments)
    settings = load_settings(AuthSettings)
    configure_logs("auth", "WARNING")
    given = sys.stdin.readline().rstrip("\r\n") if options.password_stdin else None
    password = given if given is not None else secrets.token_urlsafe(_PASSWORD_BYTES)
    try:
        asyncio.run(_create(settings, options.email, password))
    except MeshError as error:
        sys.exit(error.message)
    sys.stdout.write(f"Administrator {options.email} was created.\n")
    if given is None:
        sys.stdout.write(f"Password, shown this once: {password}\n")


async def _create(settings: AuthSettings, email: str, password: str) -> None:
    async with open_registration(settings) as register:
        await register.create(*new_credentials(email, password), is_admin=True)
