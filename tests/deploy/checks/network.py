"""NetworkPolicies allow the connections that the mesh needs, and no others."""

from collections.abc import Iterator

from deploy.manifests import Release
from deploy.mesh_edges import tried
from deploy.netpol import Policies


def policies_are_the_edges(release: Release) -> Iterator[str]:
    if not release.values["networkPolicy"]["enabled"]:
        return
    policies = Policies(release.of("NetworkPolicy"))
    for connection, wanted in tried(release):
        if policies.let(connection) != wanted:
            yield f"{connection} {'is needed and closed' if wanted else 'is open and not needed'}"


def policies_are_there_or_not(release: Release) -> Iterator[str]:
    if bool(release.of("NetworkPolicy")) != release.values["networkPolicy"]["enabled"]:
        yield "networkPolicy.enabled does not decide about NetworkPolicies"
