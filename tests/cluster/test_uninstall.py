"""After an uninstall, only the objects that docs/operations/install.md names remain."""

from mesh_common.grpc.edges import SERVICES

from cluster.kubectl import eventually, name_of
from cluster.release import RELEASE, Release

_KINDS = (
    "deployments,statefulsets,jobs,services,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,"
    "horizontalpodautoscalers,roles,rolebindings,pods,httproutes,gateways"
)


async def test_uninstall_leaves_the_secrets_alone(mesh: Release) -> None:
    await mesh.helm.uninstall()
    # helm does not wait for pods that drain.
    await eventually("no pod is left", lambda: _has_no_pods(mesh), within_s=120)

    left = await mesh.kubectl.find(_KINDS)
    mine = {f"{each['kind']}/{name_of(each)}" for each in left if name_of(each).startswith(f"{RELEASE}-")}

    migrations = {f"Secret/{RELEASE}-{service}-migrate" for service in SERVICES if service != "gateway"}
    others = {f"Secret/{RELEASE}-{name}" for name in ("bootstrap", "database-admin", "redis", "service-keys")}
    assert mine == {f"Secret/{RELEASE}-{service}" for service in SERVICES} | migrations | others


async def _has_no_pods(mesh: Release) -> bool:
    return not await mesh.kubectl.find("pods", f"app.kubernetes.io/instance={RELEASE}")
