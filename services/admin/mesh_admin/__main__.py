"""`python -m mesh_admin secrets|bootstrap-db`: one-time setup of a mesh, also available in the images."""

import argparse

from mesh_common.process.logs import configure_logs
from mesh_common.process.settings import load_settings
from mesh_common.process.signals import end_on_sigterm

from mesh_admin.bootstrap_db import BootstrapSettings, bootstrap_database
from mesh_admin.secrets_command import add_secrets_command, run_secrets_command


def main() -> None:
    end_on_sigterm()
    parser = argparse.ArgumentParser(prog="mesh_admin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("bootstrap-db", help="create roles, schemas and the vector extension")
    add_secrets_command(commands)
    arguments = parser.parse_args()
    configure_logs("mesh", "INFO")
    if arguments.command == "bootstrap-db":
        bootstrap_database(load_settings(BootstrapSettings))
    else:
        run_secrets_command(arguments)


if __name__ == "__main__":
    main()
