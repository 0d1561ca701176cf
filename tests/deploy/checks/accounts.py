"""Service accounts: only the Job that creates Secrets has a token, and its permissions are minimal."""

from collections.abc import Iterator
from typing import Final

from mesh_common.grpc.edges import SERVICES

from deploy.manifests import Object, Release, labels_of, name_of
from deploy.secret_names import made_by_the_job

_TOKEN_NEEDED: Final = "secrets"
_JOURNAL: Final = "secrets-unfinished"


def accounts_exist(release: Release) -> Iterator[str]:
    given = {
        account["name"]
        for service in SERVICES
        if not (account := release.service_values(service)["serviceAccount"])["create"]
    }
    for workload in release.workloads:
        account = workload.spec.get("serviceAccountName", "default")
        if not release.find("ServiceAccount", account) and account not in given | {"default"}:
            yield f"{workload} runs as {account}, which is not there"


def only_the_secrets_job_has_a_token(release: Release) -> Iterator[str]:
    for account in release.of("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {name_of(account)} gives its token to every pod"
    for workload in release.workloads:
        has_token = workload.spec.get("automountServiceAccountToken", True)
        if has_token != (workload.component == _TOKEN_NEEDED):
            yield f"{workload} gets a token: {has_token}"


def rights_are_least(release: Release) -> Iterator[str]:
    """RBAC cannot restrict create to names, but get and delete must be."""
    if cluster_wide := release.of("ClusterRole", "ClusterRoleBinding"):
        yield f"rights in all namespaces: {[name_of(thing) for thing in cluster_wide]}"
    for role in release.of("Role"):
        if labels_of(role)["app.kubernetes.io/component"] != _TOKEN_NEEDED:
            yield f"Role {name_of(role)} is of no use"
        found = {right for rule in role["rules"] for right in _rights(rule)}
        wanted = _wanted(release)
        yield from (f"Role {name_of(role)} has the right {right} and does not need it" for right in found - wanted)
        yield from (f"Role {name_of(role)} lacks the right {right}" for right in wanted - found)


def roles_are_bound_to_their_account(release: Release) -> Iterator[str]:
    for binding in release.of("RoleBinding"):
        if not release.find(binding["roleRef"]["kind"], binding["roleRef"]["name"]):
            yield f"RoleBinding {name_of(binding)} names a role that is not there"
        for subject in binding["subjects"]:
            if not release.find(subject["kind"], subject["name"]) or subject["namespace"] != release.namespace:
                yield f"RoleBinding {name_of(binding)} names {subject}, who is not there"


def _rights(rule: Object) -> Iterator[tuple[str, str, str]]:
    for verb in rule["verbs"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames") or ["*"]:
                    yield f"{group}/{resource}", verb, name


def _wanted(release: Release) -> set[tuple[str, str, str]]:
    journal = f"{release.values['secrets']['prefix'] or release.fullname}-{_JOURNAL}"
    readable = {*made_by_the_job(release), journal}
    return {
        ("/secrets", "create", "*"),
        ("/secrets", "delete", journal),
        *(("/secrets", "get", name) for name in readable),
    }
