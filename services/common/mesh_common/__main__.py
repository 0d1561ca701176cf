"""`python -m mesh_common secrets|bootstrap-db`: what is done once per mesh, also from the images."""

import argparse
import sys
from pathlib import Path

from mesh_common.bootstrap_db import BootstrapSettings, bootstrap_database
from mesh_common.logs import configure_logs
from mesh_common.secrets import kubernetes_secrets, make_secrets, write_dotenv
from mesh_common.settings import load_settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="mesh_common", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("bootstrap-db", help="make roles, schemas and the vector extension")
    make = commands.add_parser("secrets", help="make every key and password of a mesh")
    make.add_argument("--format", choices=("dotenv", "kubernetes"), default="dotenv")
    make.add_argument("--folder", type=Path, default=Path("secrets"), help="where dotenv files go")
    make.add_argument("--database", default="postgres:5432", help="host:port of PostgreSQL")
    make.add_argument("--redis", default="redis:6379", help="host:port of Redis")
    arguments = parser.parse_args()
    configure_logs("mesh", "INFO")
    if arguments.command == "bootstrap-db":
        bootstrap_database(load_settings(BootstrapSettings))
    elif arguments.format == "kubernetes":
        sys.stdout.write(kubernetes_secrets(make_secrets(), database=arguments.database, redis=arguments.redis))
    else:
        _write_new_dotenv(arguments)


def _write_new_dotenv(arguments: argparse.Namespace) -> None:
    if (arguments.folder / "auth.env").exists():
        sys.exit(
            f"{arguments.folder} already holds secrets. Move them away first: new ones would lock every service out."
        )
    write_dotenv(make_secrets(), arguments.folder, database=arguments.database, redis=arguments.redis)
    sys.stdout.write(f"Secrets written to {arguments.folder}. Keep them out of version control.\n")


if __name__ == "__main__":
    main()
