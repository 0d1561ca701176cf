"""`python -m mesh_auth serve|migrate`, and the commands for accounts (`--help` of any of them lists all)."""

import sys
from typing import Final

from mesh_common.service_main import service_main

from mesh_auth.settings import AuthMigrationSettings, AuthSettings

_ACCOUNT_COMMANDS: Final = frozenset(
    {"create-admin", "create-user", "set-password", "disable-user", "enable-user", "list-users"}
)


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in _ACCOUNT_COMMANDS:
        from mesh_auth.account_commands import account_main  # noqa: PLC0415 - the other commands need none of it

        account_main(sys.argv[1:])
    else:
        service_main(
            "auth",
            settings_class=AuthSettings,
            migration_settings_class=AuthMigrationSettings,
        )


if __name__ == "__main__":
    main()
