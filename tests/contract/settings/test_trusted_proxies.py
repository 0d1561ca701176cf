"""The examples that people copy trust a number of proxies, or proxies by their single addresses, and no network."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("deploy", "docs", "services", "README.md")
KINDS = {".yaml", ".yml", ".md", ".gotmpl", ".json", ".production", ".example", ".py", ".tpl"}
# Behind a proxy, clients would otherwise share its limits: twenty logins a minute for all of them.
BEHIND_A_PROXY = (
    "services/gateway/.env.production",
    "deploy/helm/mesh/values-eks.yaml",
    "deploy/helm/mesh/ci/ha-values.yaml",
)
TRUSTED = re.compile(r"GATEWAY_TRUSTED_PROXIES\W*[:=]\s*(.*)")
# A default of a Compose variable is its value.
NETWORK = re.compile(r"[0-9a-fA-F.:]+/\d{1,3}")
VARIABLE = re.compile(r"\$\{\w+:-([^}]*)\}")


def _files() -> list[Path]:
    found = [
        path for name in FOLDERS for path in ((ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name])
    ]
    return [path for path in found if path.suffix in KINDS and path.is_file()]


def _trusted(path: Path) -> list[str]:
    text = VARIABLE.sub(r"\1", path.read_text())
    return [network for value in TRUSTED.findall(text) for network in NETWORK.findall(value)]


def test_no_example_trusts_a_network() -> None:
    trusted = {path.relative_to(ROOT).as_posix(): _trusted(path) for path in _files()}

    assert trusted["deploy/compose/docker-compose.yml"] == ["172.29.250.10/32"]
    assert {
        path: networks
        for path, networks in trusted.items()
        if any(ip_network(network).num_addresses > 1 for network in networks)
    } == {}


@pytest.mark.parametrize("path", BEHIND_A_PROXY)
def test_examples_of_production_count_their_proxies(path: str) -> None:
    assert re.findall(r"GATEWAY_TRUSTED_PROXY_HOPS\W*[:=]\s*(\d+)", (ROOT / path).read_text()) == ["1"]
