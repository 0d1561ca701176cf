"""`python -m mesh_auth serve|migrate|create-admin`."""

import sys

from mesh_common.service_main import service_main

from mesh_auth.settings import AuthMigrationSettings, AuthSettings


def main() -> None:
    if sys.argv[1:2] == ["create-admin"]:
        from mesh_auth.create_admin import create_admin_main  # noqa: PLC0415 - the other commands need none of it

        create_admin_main(sys.argv[2:])
    else:
        service_main(
            "auth",
            settings_class=AuthSettings,
            migration_settings_class=AuthMigrationSettings,
        )


if __name__ == "__main__":
    main()
