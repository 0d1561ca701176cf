"""The Secrets part of a Kubernetes API server, over TLS on loopback, with a pod's service account folder."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fakes.common.secret_store import FakeSecretStore

from support.certificates import new_authority

TOKEN = "token of the pod"
NAMESPACE = "there"


@dataclass
class FakeApi:
    """First closes `cut` connections, then answers `refusals` in this order, then serves normally."""

    port: int
    folder: Path
    store: FakeSecretStore = field(default_factory=FakeSecretStore)
    refusals: list[tuple[int, bytes]] = field(default_factory=list)
    cuts: int = 0
    requests: list[str] = field(default_factory=list)
    host: str = "127.0.0.1"

    def environment(self) -> dict[str, str]:
        return {
            "KUBERNETES_SERVICE_HOST": self.host,
            "KUBERNETES_SERVICE_PORT": str(self.port),
            "KUBERNETES_SERVICE_ACCOUNT_FOLDER": str(self.folder),
        }


@contextmanager
def open_api(folder: Path) -> Iterator[FakeApi]:
    authority = new_authority()
    files = authority.issue(folder / "server", "127.0.0.1")
    account = folder / "account"
    account.mkdir()
    (account / "token").write_text(f"{TOKEN}\n")
    (account / "namespace").write_text(NAMESPACE)
    (account / "ca.crt").write_bytes(authority.pem)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    _Handler.api = FakeApi(server.server_address[1], account)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield _Handler.api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        self.api.requests.append(f"{self.command} {self.path}")
        if self.api.cuts:
            self.api.cuts -= 1
            self.close_connection = True
            return
        if self.api.refusals:
            self._send(*self.api.refusals.pop(0))
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._send(401, b"{}")
        else:
            self._answer()

    def _answer(self) -> None:
        base, _, name = self.path.partition("/secrets")
        assert base == f"/api/v1/namespaces/{NAMESPACE}"
        name = name.lstrip("/")
        match self.command:
            case "POST":
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                made = self.api.store.create(body)
                self._send(HTTPStatus.CREATED if made else HTTPStatus.CONFLICT, self._status("AlreadyExists"))
            case "GET" if secret := self.api.store.get(name):
                self._send(HTTPStatus.OK, json.dumps(secret).encode())
            case "DELETE" if name in self.api.store.secrets:
                self.api.store.delete(name)
                self._send(HTTPStatus.OK, self._status("Success"))
            case _:
                self._send(HTTPStatus.NOT_FOUND, self._status("NotFound"))

    def _status(self, reason: str) -> bytes:
        status: dict[str, Any] = {"kind": "Status", "reason": reason}
        return json.dumps(status).encode()

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
