"""Assigns test files to pytest's workers."""

from typing import Final

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

_MESH_FOLDERS: Final = ("tests/chaos/", "tests/e2e/")
# The other files of tests/e2e use a shared stack.
OWN_MESH: Final = frozenset(f"tests/e2e/test_{name}.py" for name in ("bench", "commands", "load", "owner_dies", "tls"))
# These kill and restart parts of a mesh, and restore them.
FRAGILE_MESH: Final = frozenset(f"tests/e2e/test_{name}.py" for name in ("auth_away", "docs_api", "outages"))


class MeshesApart(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Assigns files as `--dist loadfile` does, but files that share a mesh to one worker, so that it starts once.

    A mesh has ten processes. Half of the workers begin with the files that need one, the others with those that need
    none, so that a few cores never start a mesh for every worker at once.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if not file.startswith("tests/e2e/") or file in OWN_MESH:
            return file
        return "tests/e2e/ fragile" if file in FRAGILE_MESH else "tests/e2e/ shared"

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(self._next_for(node), last=False)
        super()._assign_work_unit(node)

    def _next_for(self, node: WorkerController) -> str:
        has_meshes = self.nodes.index(node) < max(1, len(self.nodes) // 2)
        wanted = (scope for scope in self.workqueue if scope.startswith(_MESH_FOLDERS) == has_meshes)
        return str(next(wanted, next(iter(self.workqueue))))
