"""The operator's lists of hosts and networks, and what they say about a host and about an address."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from mesh_agent.tools.web.addresses import AddressPolicy, Network, Verdict


@dataclass(frozen=True, slots=True)
class Places:
    """Hosts include their subdomains. `only_allowed` refuses everything that no entry of the allow list names."""

    addresses: AddressPolicy
    allowed_hosts: frozenset[str]
    denied_hosts: frozenset[str]
    ports: frozenset[int]
    only_allowed: bool

    def may_dial(self, host: str, address: str) -> bool:
        """Whether an address may be dialled for a host. Called for each address that is about to be dialled."""
        if _names(self.denied_hosts, host):
            return False
        verdict = self.addresses.verdict(address)
        is_allowed_host = _names(self.allowed_hosts, host)
        if verdict is Verdict.PRIVATE:
            return is_allowed_host
        if verdict is not Verdict.PUBLIC:
            return False
        return not self.only_allowed or is_allowed_host or self.addresses.allows(address)


def places(
    allow: Iterable[str], deny: Iterable[str], ports: Iterable[int] = (80, 443), *, only_allowed: bool = False
) -> Places:
    """Reads lists of hosts and networks. Raises ValueError for an entry with a prefix that is no network."""
    allowed_hosts, allowed_networks = _sorted(allow)
    denied_hosts, denied_networks = _sorted(deny)
    return Places(
        AddressPolicy(allowed_networks, denied_networks), allowed_hosts, denied_hosts, frozenset(ports), only_allowed
    )


def _sorted(entries: Iterable[str]) -> tuple[frozenset[str], tuple[Network, ...]]:
    hosts: set[str] = set()
    networks: list[Network] = []
    for entry in entries:
        try:
            networks.append(ip_network(entry))
        except ValueError:
            if "/" in entry:
                raise
            hosts.add(entry.lower().strip("."))
    return frozenset(hosts), tuple(networks)


def _names(hosts: frozenset[str], host: str) -> bool:
    labels = host.split(".")
    return any(".".join(labels[start:]) in hosts for start in range(len(labels)))
