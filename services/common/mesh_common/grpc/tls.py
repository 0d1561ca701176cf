"""gRPC over mutual TLS, with certificates on both sides that are renewed while the process runs.

cert-manager replaces the files after two thirds of a certificate's lifetime. A process that reads them only once is
rejected by its peers as soon as its certificate expires.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, cast

import grpc
import structlog

from mesh_common.process.tls_files import TlsFiles, TlsMaterial

log = structlog.get_logger()

# Costs three calls of stat(). A certificate is replaced weeks before it expires.
_CHECK_EVERY_S: Final = 10.0

type _Make = Callable[[grpc.aio.Channel], Callable[..., Any]]


class TlsWatch:
    """The contents of three files, and their replacement."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._version = files.version()
        self.first = files.read()

    def renewed(self) -> TlsMaterial | None:
        """New material, once. None if there is none, or if it is only partly written."""
        try:
            version = self._files.version()
            if version == self._version:
                return None
            material = self._files.read()
        except (OSError, ValueError) as error:
            log.warning("tls.not_renewed", reason=str(error))
            return None
        self._version = version
        log.info("tls.renewed")
        return material


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Requires a client certificate of the mesh. gRPC checks for renewed files at each handshake."""
    watch = TlsWatch(files)

    def renewed() -> grpc.ServerCertificateConfiguration:
        material = watch.renewed()
        # None means no change, which the stubs omit.
        return _server_configuration(material) if material else cast("grpc.ServerCertificateConfiguration", None)

    return grpc.dynamic_ssl_server_credentials(
        _server_configuration(watch.first), renewed, require_client_authentication=True
    )


def channel_credentials(material: TlsMaterial) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(material.authorities, material.key, material.certificate)


def _server_configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    pair = (material.key, material.certificate)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=material.authorities)


class RenewingChannel(grpc.aio.Channel):
    """Sends calls over the channel with the newest certificate, because gRPC cannot replace a channel's credentials."""

    def __init__(
        self,
        open_with: Callable[[TlsMaterial], grpc.aio.Channel],
        files: TlsFiles,
        *,
        check_every_s: float = _CHECK_EVERY_S,
    ) -> None:
        self._open_with = open_with
        self._watch = TlsWatch(files)
        self._check_every_s = check_every_s
        self._checked_at_s = time.monotonic()
        self._newest = open_with(self._watch.first)
        self._former: grpc.aio.Channel | None = None

    def newest(self) -> grpc.aio.Channel:
        now_s = time.monotonic()
        if now_s - self._checked_at_s >= self._check_every_s:
            self._checked_at_s = now_s
            if material := self._watch.renewed():
                # Calls in progress end on the former channel. The one before it is unused by now, because servers close
                # connections by age, within minutes.
                self._former, self._newest = self._newest, self._open_with(material)
        return self._newest

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Renewing(self, lambda channel: channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Renewing(self, lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Renewing(self, lambda channel: channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Renewing(self, lambda channel: channel.stream_stream(*args, **kwargs))

    async def close(self, grace: float | None = None) -> None:
        for channel in (self._former, self._newest):
            if channel:
                await channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - gRPC's
        return self.newest().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.newest().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.newest().channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Renewing:
    """One method of a stub, created again for each new channel."""

    def __init__(self, channel: RenewingChannel, make: _Make) -> None:
        self._channel = channel
        self._make = make
        self._made_for = channel.newest()
        self._method = make(self._made_for)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        newest = self._channel.newest()
        if newest is not self._made_for:
            self._made_for, self._method = newest, self._make(newest)
        return self._method(*args, **kwargs)
