"""Which addresses may be dialled for a model (tests/cases/web-refused.jsonl): no form of a private one."""

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from fakes.agent.dialing import FakeResolver, RecordingSockets
from mesh_agent.domain.tools import Effect
from mesh_agent.metrics import FETCHES
from mesh_agent.tools.call import ToolCall
from mesh_agent.tools.registry import MeshTool, ToolRegistry
from mesh_agent.tools.web.addresses import AddressPolicy, Verdict
from mesh_agent.tools.web.dialing import Dialer
from mesh_agent.tools.web.download import download
from mesh_agent.tools.web.errors import FetchError, FetchOutcome
from mesh_agent.tools.web.extractor import Extractor
from mesh_agent.tools.web.fetch import Fetcher, fetch_url_tool
from mesh_agent.tools.web.places import Places, places
from mesh_agent.tools.web.urls import checked_url

CASES = [json.loads(line) for line in Path("tests/cases/web-refused.jsonl").read_text("utf-8").splitlines()]
REFUSED = [case["url"] for case in CASES]
PUBLIC = places((), ())
NAMES = {
    "*": [["10.0.0.7"]],
    "example.com": [["93.184.215.14"]],
    "mapped.attacker.test": [["::ffff:10.0.0.7"]],
    "nat64.attacker.test": [["64:ff9b::a00:7"]],
    "sixtofour.attacker.test": [["2002:a00:7::1"]],
    "v6.attacker.test": [["fd00::7"]],
    "both.attacker.test": [["10.0.0.7", "fd00::7", "127.0.0.1"]],
}


async def outcome_of(url: str, allowed: Places, resolver: FakeResolver) -> tuple[FetchOutcome, RecordingSockets]:
    sockets = RecordingSockets()
    with pytest.raises(FetchError) as failed:
        await download(url, Dialer(allowed, resolver, sockets), 1_000)
    return failed.value.outcome, sockets


def test_corpus_is_large() -> None:
    assert len(set(REFUSED)) > 300


@pytest.mark.parametrize("url", REFUSED)
async def test_refused_url_dials_nothing(url: str) -> None:
    outcome, sockets = await outcome_of(url, PUBLIC, FakeResolver(NAMES))

    assert outcome in {FetchOutcome.REFUSED_URL, FetchOutcome.REFUSED_ADDRESS}
    assert sockets.families == []


async def test_model_gets_an_error_without_any_address_for_every_refused_url() -> None:
    sockets = RecordingSockets()
    fetcher = Fetcher(Dialer(PUBLIC, FakeResolver(NAMES), sockets), Extractor(), 5.0, 1_000)
    registry = ToolRegistry([MeshTool(fetch_url_tool(fetcher), Effect.NONE)])
    counter = FETCHES.labels(FetchOutcome.REFUSED_ADDRESS)
    before = counter._value.get()

    results = [await registry.call(ToolCall("1", "fetch_url", {"url": url}), registry.planned) for url in REFUSED]

    assert all(result.is_error and not result.is_unknown for result in results)
    assert not any(secret in result.content for result in results for secret in ("10.", "127.", "fd00", "private"))
    assert sockets.families == []
    assert counter._value.get() - before > 100


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://EXAMPLE.com:443/a/b?c=d#e",
        "http://example.com./",
        "http://\uff45\uff58\uff41\uff4dple.com/",
        "http://example.com#@127.0.0.1/",
        "http://example.com/http://127.0.0.1/",
        "http://example.com/?u=http://user@127.0.0.1/",
        "http://bücher.example.com/straße?q=grün",
        "http://xn--bcher-kva.example.com/",
        "http://a_b.example.com/",
        "http://1.1.1.1/",
        "http://16843009/",
        "http://0x01010101/",
        "http://1.1/",
        "http://8.8.8.8:80/",
        "http://9.255.255.255/",
        "http://11.0.0.0/",
        "http://100.63.255.255/",
        "http://100.128.0.0/",
        "http://126.255.255.255/",
        "http://128.0.0.1/",
        "http://169.253.255.255/",
        "http://169.255.0.1/",
        "http://172.15.255.255/",
        "http://172.32.0.1/",
        "http://192.167.255.255/",
        "http://192.169.0.1/",
        "http://198.17.255.255/",
        "http://198.20.0.1/",
        "http://223.255.255.255/",
        "http://[2606:4700:4700::1111]/",
        "http://[2001:4860:4860::8888]/",
        "https://[2A00:1450:4001:0:0:0:0:200E]:443/",
        "http://[::ffff:8.8.8.8]/",
        "http://[64:ff9b::8.8.8.8]/",
    ],
)
async def test_public_url_is_dialled(url: str) -> None:
    resolver = FakeResolver({"*": [["93.184.215.14", "2606:2800:220:1::1"]]})

    outcome, sockets = await outcome_of(url, PUBLIC, resolver)

    assert outcome is FetchOutcome.UNREACHABLE
    assert sockets.families


async def test_name_that_changes_its_address_is_checked_at_each_dial() -> None:
    """DNS rebinding: the first answer is public, the second is not."""
    resolver = FakeResolver({"rebind.test": [["93.184.215.14"], ["169.254.169.254"]]})

    first, dialled = await outcome_of("http://rebind.test/", PUBLIC, resolver)
    second, not_dialled = await outcome_of("http://rebind.test/", PUBLIC, resolver)

    assert (first, len(dialled.families)) == (FetchOutcome.UNREACHABLE, 1)
    assert (second, not_dialled.families) == (FetchOutcome.REFUSED_ADDRESS, [])


async def test_name_is_resolved_once_for_a_request() -> None:
    resolver = FakeResolver({"rebind.test": [["93.184.215.14"], ["169.254.169.254"]]})

    await outcome_of("http://rebind.test/", PUBLIC, resolver)

    assert resolver.asked == ["rebind.test"]


@pytest.mark.parametrize("address", ["10.0.0.7", "::ffff:10.0.0.7", "64:ff9b::a00:7"])
def test_allowed_network_is_allowed_in_each_notation(address: str) -> None:
    assert places(["10.0.0.0/24"], ()).may_dial("wiki", address)
    assert not places(["10.0.1.0/24"], ()).may_dial("wiki", address)


@pytest.mark.parametrize("address", ["2002:a00:7::1", "64:ff9b:1:a00:0:700::", "2606:4700::5efe:a00:7", "::a00:7"])
def test_allowed_network_does_not_open_tunnels_to_it(address: str) -> None:
    assert not places(["10.0.0.0/24"], ()).may_dial("wiki", address)


def test_allowed_host_opens_private_addresses_and_no_reserved_ones() -> None:
    allowed = places(["wiki.test"], ())

    assert allowed.may_dial("wiki.test", "10.0.0.7")
    assert allowed.may_dial("en.wiki.test", "fd00::7")
    for address in ("169.254.169.254", "127.0.0.1", "fd00:ec2::254", "100.100.100.200", "::1"):
        assert not allowed.may_dial("wiki.test", address)
    assert not allowed.may_dial("otherwiki.test", "10.0.0.7")


@pytest.mark.parametrize("denied", ["example.com", "com", "93.184.215.0/24", "93.184.215.14"])
def test_deny_wins(denied: str) -> None:
    both = places(["example.com", "93.184.0.0/16"], [denied])

    assert not both.may_dial("www.example.com", "93.184.215.14")
    assert both.may_dial("www.example.org", "93.185.0.1")


def test_denied_network_is_denied_in_each_form() -> None:
    denied = AddressPolicy(deny=[IPv4Network("8.8.8.0/24")])

    assert denied.verdict("::ffff:8.8.8.8") is denied.verdict("64:ff9b::808:808") is Verdict.DENIED


def test_only_allowed_refuses_the_rest_of_the_web() -> None:
    only = places(["example.com", "1.1.1.0/24"], (), only_allowed=True)

    assert only.may_dial("www.example.com", "93.184.215.14")
    assert only.may_dial("one.test", "1.1.1.1")
    assert not only.may_dial("example.org", "93.184.215.14")


def test_urls_are_read_into_one_spelling() -> None:
    ports = frozenset({80, 443})

    assert str(checked_url("HTTP://ExAmPle.COM.:80?q=a b#f".replace(" ", "+"), ports)) == "http://example.com/?q=a+b"
    assert checked_url("http://0177.0.0.1/", ports).raw_host == "127.0.0.1"
    assert checked_url("http://bücher.de/", ports).raw_host == "xn--bcher-kva.de"
