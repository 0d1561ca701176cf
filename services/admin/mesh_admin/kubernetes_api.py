"""Secrets through the Kubernetes API, from within a pod: the three calls that `secrets --apply` makes.

The standard library is enough for three calls, and a client library would be the largest part of the image. No answer
of the API server is passed on but its reason: it may repeat what it was sent.
"""

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from mesh_common.errors import DeadlineExceeded, PermissionDenied, PreconditionFailed, Unavailable
from mesh_common.process.settings import EnvironmentSettings, Port, settings_config
from pydantic import Field, field_validator
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

# One answer of a healthy API server takes milliseconds; a network policy may take half a second to reach a new pod.
_CALL_TIMEOUT_S: Final = 5.0
_TRIES: Final = 3
_PAUSE_S: Final = 1.0
# All calls of one set together: thirteen Secrets, two calls each.
_DEADLINE_S: Final = 90.0
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024


class KubernetesSettings(EnvironmentSettings):
    """What Kubernetes tells every pod, prefix `KUBERNETES_`."""

    model_config = settings_config("KUBERNETES_")

    service_host: str
    """Address of the API server."""
    service_port: Port = 443
    """Its port."""
    service_account_folder: Path = Field(
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount"), validate_default=True
    )
    """Folder with the pod's `token`, the API server's `ca.crt` and the pod's `namespace`."""

    @field_validator("service_account_folder")
    @classmethod
    def _is_complete(cls, folder: Path) -> Path:
        for name in ("token", "ca.crt", "namespace"):
            try:
                (folder / name).read_bytes()
            except OSError as error:
                raise ValueError(f"{folder / name} cannot be read: {error.strerror}") from error
        return folder


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    fields: Mapping[str, Any]


class KubernetesSecrets:
    """The Secrets of one namespace, the pod's own unless said. Every call is safe to repeat, and is repeated."""

    def __init__(self, settings: KubernetesSettings, namespace: str | None = None) -> None:
        folder = settings.service_account_folder
        self.namespace = namespace or (folder / "namespace").read_text().strip()
        self._token = (folder / "token").read_text().strip()
        self._address = (settings.service_host, settings.service_port)
        self._tls = ssl.create_default_context(cafile=folder / "ca.crt")
        # Python 3.13 is strict by default; authorities of many clusters lack the extensions that it then asks for
        # (https://github.com/kubernetes-client/python/issues/2394).
        self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._until_s = time.monotonic() + _DEADLINE_S

    def get(self, name: str) -> Mapping[str, Any] | None:
        """The Secret as the API gives it (`data` in base64), or None."""
        answer = self._call("GET", name)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        self._require(answer, {HTTPStatus.OK}, f"reading Secret {name}")
        return answer.fields

    def create(self, secret: Mapping[str, Any]) -> bool:
        """False when there is one of this name already."""
        answer = self._call("POST", body=secret)
        allowed = {HTTPStatus.CREATED, HTTPStatus.CONFLICT}
        self._require(answer, allowed, f"creating Secret {secret['metadata']['name']}")
        return answer.status == HTTPStatus.CREATED

    def delete(self, name: str) -> None:
        """Whether it was there or not."""
        answer = self._call("DELETE", name)
        self._require(answer, {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND}, f"deleting Secret {name}")

    def _call(self, method: str, name: str = "", body: Mapping[str, Any] | None = None) -> _Answer:
        path = f"/api/v1/namespaces/{self.namespace}/secrets" + (f"/{name}" if name else "")
        retrying = Retrying(
            retry=retry_if_exception_type((OSError, http.client.HTTPException)),
            stop=stop_after_attempt(_TRIES),
            wait=wait_fixed(_PAUSE_S),
            reraise=True,
        )
        try:
            return retrying(self._call_once, method, path, body)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"The Kubernetes API server at {self._address[0]}:{self._address[1]} could not be reached"
                f" ({type(error).__name__})."
            ) from error

    def _call_once(self, method: str, path: str, body: Mapping[str, Any] | None) -> _Answer:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded(f"The Kubernetes API server took longer than {_DEADLINE_S:.0f} s.")
        connection = http.client.HTTPSConnection(
            *self._address, timeout=min(_CALL_TIMEOUT_S, left_s), context=self._tls
        )
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        try:
            connection.request(method, path, None if body is None else orjson.dumps(body), headers)
            response = connection.getresponse()
            return _Answer(response.status, _fields(response.read(_MAX_ANSWER_BYTES)))
        finally:
            connection.close()

    def _require(self, answer: _Answer, allowed: set[HTTPStatus], doing: str) -> None:
        if answer.status in allowed:
            return
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise PermissionDenied(
                f"Kubernetes refused {doing} in namespace {self.namespace} ({answer.status}):"
                " the pod's service account needs create, and get and delete of these names, on secrets."
            )
        reason = str(answer.fields.get("reason", "no reason given"))[:63]
        raise PreconditionFailed(f"Kubernetes answered {answer.status} ({reason}) to {doing}.")


def _fields(body: bytes) -> Mapping[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
