"""Files in place of mounted Secrets, for settings that read them: public keys, and one certificate per service."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mesh_common.grpc.edges import SERVICES
from support.certificates import new_authority

from deploy.secret_names import examples


def sample_file(key: str, service: str) -> Path:
    """The file that contains the Secret's key `key` in a pod of `service`."""
    folder = Path(_folder().name)
    return folder / service / key if key in {"tls.crt", "tls.key", "ca.crt"} else folder / key


@cache
def _folder() -> "TemporaryDirectory[str]":
    """Deleted when the process ends."""
    folder = TemporaryDirectory(prefix="mesh-deploy-")
    path = Path(folder.name)
    (path / "service-jwks.json").write_text(examples()["service-keys"]["service-jwks.json"])
    authority = new_authority()
    for service in SERVICES:
        authority.issue(path / service, service)
    return folder
