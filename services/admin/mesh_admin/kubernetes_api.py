"""The three calls to the Kubernetes API that `secrets --apply` makes from inside a pod.

The standard library suffices for three calls; a client library would be the largest part of the image. Of the API
server's answers only the reason is reported, because an answer may repeat what was sent.
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

# A healthy API server answers in milliseconds; a network policy may need half a second to take effect for a new pod.
_CALL_TIMEOUT_S: Final = 5.0
_TRIES: Final = 3
_PAUSE_S: Final = 1.0
# For all calls of one set together: two calls for each of thirteen Secrets.
_DEADLINE_S: Final = 90.0
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024


class KubernetesSettings(EnvironmentSettings):
    """The variables that Kubernetes sets in every pod, prefix `KUBERNETES_`."""

    model_config = settings_config("KUBERNETES_")

    service_host: str
    """Address of the API server."""
    service_port: Port = 443
    """Port of the API server."""
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
    """The Secrets of one namespace, by default the pod's own. Every call is idempotent and is retried."""

    def __init__(self, settings: KubernetesSettings, namespace: str | None = None) -> None:
        folder = settings.service_account_folder
        self.namespace = namespace or (folder / "namespace").read_text().strip()
        self._token = (folder / "token").read_text().strip()
        self._address = (settings.service_host, settings.service_port)
        self._tls = ssl.create_default_context(cafile=folder / "ca.crt")
        # Python 3.13 verifies strictly by default, but the authorities of many clusters lack the extensions that this
        # requires (https://github.com/kubernetes-client/python/issues/2394).
        self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._until_s = time.monotonic() + _DEADLINE_S

    def get(self, name: str) -> Mapping[str, Any] | None:
        """The Secret in the API's form (`data` in base64), or None if it does not exist."""
        answer = self._call("GET", name)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        self._require(answer, {HTTPStatus.OK}, f"reading Secret {name}")
        return answer.fields

    def create(self, secret: Mapping[str, Any]) -> bool:
        """False if a Secret of this name already exists."""
        answer = self._call("POST", body=secret)
        allowed = {HTTPStatus.CREATED, HTTPStatus.CONFLICT}
        self._require(answer, allowed, f"creating Secret {secret['metadata']['name']}")
        return answer.status == HTTPStatus.CREATED

    def delete(self, name: str) -> None:
        """Succeeds also if the Secret does not exist."""
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
                f"Kubernetes refused {doing} in namespace {self.namespace} ({answer.status}): the pod's service account"
                " needs the verb create on secrets, and get and delete on these names."
            )
        reason = str(answer.fields.get("reason", "no reason given"))[:63]
        raise PreconditionFailed(f"Kubernetes answered {answer.status} ({reason}) to {doing}.")


def _fields(body: bytes) -> Mapping[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
