"""Files that share a mesh run in the same worker, and meshes start in half of the workers."""

from pathlib import Path
from types import SimpleNamespace

from support.workers import FRAGILE_MESH, OWN_MESH, MeshesApart

TESTS = Path(__file__).parents[2]


class Node:
    """A worker as the scheduler sees it."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.shutting_down = False
        self.gateway = SimpleNamespace(id="gw")

    def shutdown(self) -> None:
        self.shutting_down = True

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices


def scheduled(collection: list[str], workers: int) -> list[set[str]]:
    """The files with which each worker begins."""
    options = SimpleNamespace(loadscopereorder=False)
    scheduler = MeshesApart(SimpleNamespace(option=options, getvalue=lambda _: ["popen"] * workers))
    nodes = [Node() for _ in range(workers)]
    for node in nodes:
        scheduler.add_node(node)
        scheduler.add_node_collection(node, collection)
    scheduler.schedule()
    return [{collection[index] for index in node.sent} for node in nodes]


# More than two tests per file: if the first file has at most two, the scheduler assigns a second one at once.
def three_of(*files: str) -> list[str]:
    return [f"{file}::test_{number}" for file in files for number in range(3)]


def test_half_of_the_workers_begin_with_meshes() -> None:
    collection = three_of(
        "tests/chaos/test_a.py", "tests/e2e/test_b.py", "tests/unit/test_c.py", "tests/unit/test_d.py"
    )

    begins = scheduled(collection, workers=4)

    assert [{name.split("/")[1] for name in given} for given in begins] == [{"chaos"}, {"e2e"}, {"unit"}, {"unit"}]


def test_files_that_share_a_mesh_stay_together() -> None:
    collection = three_of("tests/e2e/test_runs.py", "tests/e2e/test_tokens.py", "tests/unit/test_c.py")

    begins = scheduled(collection, workers=2)

    assert begins[0] == set(three_of("tests/e2e/test_runs.py", "tests/e2e/test_tokens.py"))


def test_each_file_of_e2e_is_where_its_mesh_is() -> None:
    texts = {f"tests/e2e/{path.name}": path.read_text() for path in (TESTS / "e2e").glob("test_*.py")}

    assert texts.keys() >= OWN_MESH
    assert {file for file, text in texts.items() if "fragile_stack: Stack" in text} == FRAGILE_MESH
    assert [file for file in OWN_MESH if "(stack: Stack" in texts[file]] == []
