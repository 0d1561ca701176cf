import io
import stat
from pathlib import Path

import orjson
import pytest
from dotenv import dotenv_values
from mesh_admin.secrets import (
    _quoted,
    environment_of,
    from_json,
    make_secrets,
    owner_environment,
    to_json,
    write_dotenv,
)
from mesh_common.jwt import SigningKey, parse_jwks

SECRETS = make_secrets()
WHERE = {"database": "db:5432", "redis": "cache:6379"}


@pytest.mark.parametrize("service", ["gateway", "auth", "agent", "memory", "eval"])
def test_dotenv_files_parse_back_to_what_was_made(tmp_path: Path, service: str) -> None:
    write_dotenv(SECRETS, tmp_path / "made", **WHERE)

    parsed = dotenv_values(tmp_path / "made" / f"{service}.env", interpolate=False)

    assert parsed == environment_of(SECRETS, service, **WHERE)
    assert SigningKey.from_pem(parsed[f"{service.upper()}_SERVICE_KEY"] or "").kid


def test_the_other_files_parse_back(tmp_path: Path) -> None:
    write_dotenv(SECRETS, tmp_path, **WHERE)

    bootstrap = dotenv_values(tmp_path / "bootstrap.env", interpolate=False)
    migrate = dotenv_values(tmp_path / "migrate.env", interpolate=False)
    redis = dotenv_values(tmp_path / "redis.env", interpolate=False)
    admin = dotenv_values(tmp_path / "database-admin.env", interpolate=False)

    assert orjson.loads(bootstrap["BOOTSTRAP_DATABASE_PASSWORDS"] or "") == SECRETS.passwords
    assert (
        migrate["EVAL_OWNER_DATABASE_URL"]
        == owner_environment(SECRETS, "eval", database="db:5432")["EVAL_OWNER_DATABASE_URL"]
    )
    assert redis == {"REDIS_PASSWORD": SECRETS.redis_password}
    assert admin == {
        "POSTGRES_PASSWORD": SECRETS.admin_password,
        "BOOTSTRAP_ADMIN_DATABASE_URL": f"postgresql://postgres:{SECRETS.admin_password}@db:5432/mesh",
    }
    assert len(parse_jwks((tmp_path / "service-jwks.json").read_text())) == 5


def test_only_the_owner_can_read_the_files_also_where_an_open_one_was(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir(mode=0o755)
    (folder / "redis.env").touch(mode=0o644)

    write_dotenv(SECRETS, folder, **WHERE)

    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_service_gets_no_secret_of_another() -> None:
    for service in ("gateway", "auth", "agent", "memory", "eval"):
        text = str(environment_of(SECRETS, service, **WHERE))
        others = [key for name, key in SECRETS.service_keys.items() if name != service]
        passwords = [value for role, value in SECRETS.passwords.items() if not role.startswith(f"{service}_login")]
        assert not [secret for secret in (*others, *passwords, SECRETS.admin_password) if secret in text]


def test_a_set_survives_its_json_and_two_sets_share_nothing() -> None:
    other = make_secrets()

    assert from_json(to_json(SECRETS)) == SECRETS
    assert not set(SECRETS.passwords.values()) & set(other.passwords.values())
    assert SECRETS.signing_key != other.signing_key


def test_set_kept_by_an_earlier_release_is_read() -> None:
    fields = orjson.loads(to_json(SECRETS))
    del fields["admin_password"]

    kept = from_json(orjson.dumps(fields).decode())

    assert kept.passwords == SECRETS.passwords
    assert kept.admin_password


def test_quotes_and_backslashes_survive_dotenv() -> None:
    value = 'it\'s a \\ "quoted" $HOME #value\nof two lines'

    assert dotenv_values(stream=io.StringIO(f"X={_quoted(value)}\n"), interpolate=False) == {"X": value}
