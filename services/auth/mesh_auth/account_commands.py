"""Commands of operators for accounts, even if registration is closed.

Passwords are read from the first line of standard input, or generated and printed once.
"""

import argparse
import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from mesh_common.errors import MeshError
from mesh_common.ids import UserId
from mesh_common.process.logs import configure_logs
from mesh_common.process.settings import load_settings
from mesh_common.process.signals import end_on_sigterm

from mesh_auth import convert
from mesh_auth.administration import Accounts
from mesh_auth.bootstrap import open_accounts
from mesh_auth.domain import User
from mesh_auth.settings import AuthSettings

_PASSWORD_BYTES: Final = 24
_PAGE: Final = 100


def account_main(arguments: Sequence[str]) -> None:
    """Runs `<command> [options]`. Exits with one line on standard error if the command fails."""
    end_on_sigterm()
    options = _parser().parse_args(arguments)
    settings = load_settings(AuthSettings)
    configure_logs("auth", "WARNING")
    try:
        asyncio.run(_run(settings, options))
    except MeshError as error:
        sys.exit(error.message)


async def _run(settings: AuthSettings, options: argparse.Namespace) -> None:
    async with open_accounts(settings) as accounts:
        await _COMMANDS[options.command](accounts, options)


async def _create_admin(accounts: Accounts, options: argparse.Namespace) -> None:
    await _create(accounts, options, "Administrator", is_admin=True)


async def _create_user(accounts: Accounts, options: argparse.Namespace) -> None:
    await _create(accounts, options, "User", is_admin=False)


async def _create(accounts: Accounts, options: argparse.Namespace, kind: str, *, is_admin: bool) -> None:
    password, is_made = _password(options)
    await accounts.create(*convert.new_credentials(options.email, password), is_admin=is_admin)
    _print(f"{kind} {options.email} was created.")
    _show(password, is_made=is_made)


async def _set_password(accounts: Accounts, options: argparse.Namespace) -> None:
    password, is_made = _password(options)
    user = await _find(accounts, options)
    await accounts.set_password(user.id, convert.new_password(password))
    _print(f"{user.email} has a new password. All sessions were ended.")
    _show(password, is_made=is_made)


async def _disable_user(accounts: Accounts, options: argparse.Namespace) -> None:
    user = await accounts.disable((await _find(accounts, options)).id)
    _print(f"{user.email} was disabled. All sessions were ended.")


async def _enable_user(accounts: Accounts, options: argparse.Namespace) -> None:
    user = await accounts.enable((await _find(accounts, options)).id)
    _print(f"{user.email} was enabled.")


async def _list_users(accounts: Accounts, options: argparse.Namespace) -> None:
    """One line for each account, newest first: id, time of creation, role, state and address, separated by tabs."""
    del options
    after: UserId | None = None
    is_first = True
    while is_first or after:
        page = await accounts.list(after=after, limit=_PAGE)
        for user in page.users:
            _print(_line(user))
        is_first, after = False, page.next_after


_COMMANDS: Final[Mapping[str, Callable[[Accounts, argparse.Namespace], Awaitable[None]]]] = {
    "create-admin": _create_admin,
    "create-user": _create_user,
    "set-password": _set_password,
    "disable-user": _disable_user,
    "enable-user": _enable_user,
    "list-users": _list_users,
}
_HELP: Final[Mapping[str, str]] = {
    "create-admin": "create an administrator",
    "create-user": "create an account",
    "set-password": "replace a user's password and end all of their sessions",
    "disable-user": "refuse a user's logins and end all of their sessions",
    "enable-user": "let a disabled user log in again",
    "list-users": "print all accounts, newest first",
}
_WITH_PASSWORD: Final = frozenset({"create-admin", "create-user", "set-password"})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mesh_auth", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _HELP.items():
        command = commands.add_parser(name, help=text, description=text)
        if name != "list-users":
            command.add_argument("--email", required=True)
        if name in _WITH_PASSWORD:
            command.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    return parser


def _password(options: argparse.Namespace) -> tuple[str, bool]:
    """The password, and whether it was made here."""
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n"), False
    return secrets.token_urlsafe(_PASSWORD_BYTES), True


async def _find(accounts: Accounts, options: argparse.Namespace) -> User:
    return await accounts.find(convert.email_keys(options.email))


def _line(user: User) -> str:
    role = "admin" if user.is_admin else "user"
    state = "disabled" if user.disabled_at else "enabled"
    return "\t".join((str(user.id), user.created_at.isoformat(timespec="seconds"), role, state, user.email))


def _show(password: str, *, is_made: bool) -> None:
    if is_made:
        _print(f"Password, shown this once: {password}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
