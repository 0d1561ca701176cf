"""Mutual TLS between services: which peers are accepted, and certificates that are renewed in operation."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mesh.eval.v1 import eval_pb2, eval_pb2_grpc
from mesh_admin.secrets import SecretSet
from mesh_common.errors import Unavailable
from mesh_common.grpc.client import open_channel
from mesh_common.grpc.tls import RenewingChannel, channel_credentials
from mesh_common.process.tls_files import ChannelTls, TlsFiles, TlsMaterial
from support.certificates import Authority, new_authority
from support.tls_service import TIMEOUT_S, TlsService, open_tls_service

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


@pytest.fixture
async def service(secrets: SecretSet, authority: Authority, tmp_path: Path) -> AsyncIterator[TlsService]:
    async with open_tls_service(secrets, tmp_path, authority.issue(tmp_path / "eval", "eval")) as opened:
        yield opened


@pytest.fixture
def gateway(authority: Authority, tmp_path: Path) -> TlsFiles:
    """The caller's certificate."""
    return authority.issue(tmp_path / "gateway", "gateway")


async def test_call_reaches_the_service_by_its_name_at_an_address_no_certificate_knows(
    service: TlsService, gateway: TlsFiles
) -> None:
    assert await service.call(gateway)


async def test_certificate_of_another_authority_is_refused(service: TlsService, tmp_path: Path) -> None:
    stranger = new_authority().issue(tmp_path / "stranger", "gateway")
    trusting = TlsFiles(stranger.certificate, stranger.key, tmp_path / "eval" / "ca.crt")

    with pytest.raises(Unavailable):
        await service.call(trusting)

    assert not service.was_called.is_set()


async def test_caller_without_a_certificate_is_refused(service: TlsService, authority: Authority) -> None:
    credentials = grpc.ssl_channel_credentials(authority.pem)
    options = (("grpc.ssl_target_name_override", "eval"),)

    async with grpc.aio.secure_channel(service.target, credentials, options=options) as channel:
        with pytest.raises(Unavailable):
            await service.call_over(channel)

    assert not service.was_called.is_set()


async def test_caller_in_the_clear_is_refused(service: TlsService) -> None:
    async with open_channel(service.target) as channel:
        with pytest.raises(Unavailable):
            await service.call_over(channel)

    assert not service.was_called.is_set()


async def test_server_with_a_certificate_of_another_service_is_not_believed(
    service: TlsService, gateway: TlsFiles
) -> None:
    with pytest.raises(Unavailable):
        await service.call(gateway, callee="memory")

    assert not service.was_called.is_set()


async def test_server_of_another_authority_is_not_believed(
    service: TlsService, gateway: TlsFiles, tmp_path: Path
) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(new_authority().pem)

    with pytest.raises(Unavailable):
        await service.call(TlsFiles(gateway.certificate, gateway.key, other))

    assert not service.was_called.is_set()


async def test_certificates_are_renewed_on_both_sides_while_calls_go_on(
    service: TlsService, gateway: TlsFiles, tmp_path: Path
) -> None:
    """The authority changes too, so that none of the former certificates is accepted any more."""
    async with renewing(service, gateway) as channel:
        service.may_answer.clear()
        before = asyncio.ensure_future(service.call_over(channel))
        await service.was_called.wait()
        other = new_authority()
        other.issue(tmp_path / "eval", "eval")
        other.issue(tmp_path / "gateway", "gateway")
        after = asyncio.ensure_future(service.call_over(channel))
        service.may_answer.set()
        answers = await asyncio.gather(before, after)
        strangers = new_authority().issue(tmp_path / "stranger", "gateway")
        with pytest.raises(Unavailable):
            await service.call(TlsFiles(strangers.certificate, strangers.key, tmp_path / "eval" / "ca.crt"))

    assert list(answers) == [True, True]


async def test_callers_half_written_files_are_waited_for(
    service: TlsService, gateway: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    new = authority.issue(tmp_path / "new", "gateway")

    async with renewing(service, gateway) as channel:
        gateway.certificate.write_bytes(new.certificate.read_bytes())
        between = await service.call_over(channel)
        gateway.key.unlink()
        without = await service.call_over(channel)
        former = channel.newest()
        gateway.key.write_bytes(new.key.read_bytes())
        whole = await service.call_over(channel)

        assert (between, without, whole) == (True, True, True)
        assert channel.newest() is not former


async def test_servers_half_written_files_are_waited_for(
    service: TlsService, gateway: TlsFiles, tmp_path: Path
) -> None:
    """The authority changes too, so that only the new certificate is accepted at the end."""
    new = new_authority().issue(tmp_path / "new", "eval")
    old_files = tmp_path / "eval"

    (old_files / "tls.crt").write_bytes(new.certificate.read_bytes())
    between = await service.call(gateway)
    (old_files / "tls.key").unlink()
    without = await service.call(gateway)
    (old_files / "tls.key").write_bytes(new.key.read_bytes())
    with pytest.raises(Unavailable):
        await service.call(gateway)
    whole = await service.call(TlsFiles(gateway.certificate, gateway.key, new.authorities))

    assert (between, without, whole) == (True, True, True)


async def test_health_port_serves_health_in_the_clear_and_nothing_else(service: TlsService) -> None:
    async with open_channel(f"ipv4:127.0.0.1:{service.health_port}") as channel:
        statuses = [await health(channel, name) for name in ("", "readiness", "liveness")]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await eval_pb2_grpc.EvalServiceStub(channel).ListScores(eval_pb2.ListScoresRequest(), timeout=TIMEOUT_S)

    assert statuses == [SERVING] * 3
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert not service.was_called.is_set()


async def test_drain_is_reported_on_the_health_port_while_it_lives(service: TlsService) -> None:
    assert service.drain

    async with open_channel(f"ipv4:127.0.0.1:{service.health_port}") as channel:
        await service.drain()
        statuses = [await health(channel, name) for name in ("readiness", "liveness")]

    assert statuses == [NOT_SERVING, SERVING]


async def test_a_service_with_too_many_calls_is_neither_dead_nor_unready(secrets: SecretSet, tmp_path: Path) -> None:
    async with (
        open_tls_service(secrets, tmp_path, None, grpc_max_concurrent_rpcs=1) as full,
        open_channel(full.target) as channel,
        open_channel(f"ipv4:127.0.0.1:{full.health_port}") as probes,
    ):
        full.may_answer.clear()
        held = asyncio.ensure_future(full.call_over(channel))
        await asyncio.wait_for(full.was_called.wait(), TIMEOUT_S)
        statuses = [await health(probes, name) for name in ("readiness", "liveness")]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health(channel, "liveness")
        full.may_answer.set()
        was_served = await held

    assert statuses == [SERVING, SERVING]
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert was_served


async def test_health_is_served_over_tls_as_well(service: TlsService, gateway: TlsFiles) -> None:
    async with open_channel(service.target, tls=ChannelTls(gateway, "eval")) as channel:
        assert await health(channel, "readiness") == SERVING


def renewing(service: TlsService, files: TlsFiles) -> RenewingChannel:
    """A channel as from `open_channel`, but it checks the files at each call."""

    def open_with(material: TlsMaterial) -> grpc.aio.Channel:
        options = ChannelTls(files, "eval").options()
        return grpc.aio.secure_channel(service.target, channel_credentials(material), options=options)

    return RenewingChannel(open_with, files, check_every_s=0.0)


async def health(channel: grpc.aio.Channel, name: str) -> int:
    request = health_pb2.HealthCheckRequest(service=name)
    return int((await health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)).status)
