"""Assistants in files: all faults at once with their places, changes without a restart, and the command that checks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.agent.runs import a_plan
from mesh_agent.assistants.file_source import FileSource
from mesh_agent.assistants.files import read_folder
from mesh_agent.assistants.planning import Planner
from mesh_agent.assistants_check import assistants_check_main
from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.graph.coded.definitions import CodedGraphs
from mesh_agent.plans.plan import Limits, PlannedTool
from mesh_agent.plans.stored import loaded, stored
from mesh_common.assistant import schema, validated
from mesh_common.errors import InvalidInput

ROOT = Path(__file__).parents[3]
TOOLS = (PlannedTool("calculate", {}, Effect.NONE), PlannedTool("order", {}, Effect.ONCE, approval=Approval.ON_EFFECT))
BASE = replace(a_plan("large", "small"), tools=TOOLS, limits=Limits(8, 600.0))
PLANNER = Planner(lambda: BASE, CodedGraphs())


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(content)
    return folder


def test_all_faults_are_named_with_file_line_and_field(tmp_path: Path) -> None:
    write(
        tmp_path,
        good="description: Fine\n",
        several="# a comment\nmodels: [large]\ntools:\n  - calculate\n  - name: order\n    approval: maybe\nextra: 1\n",
        names="tools:\n- calculate\n- nothing\ninstructions: |\n  Hello $nobody\n",
        syntax="description: [\n",
        alias="a: &a [1]\nb: *a\n",
        scalar="5\n",
        clash="name: good\n",
    )

    read = read_folder(tmp_path, PLANNER)

    assert sorted(read.assistants) == ["good"]
    assert sorted(map(str, read.faults)) == [
        "alias.yaml: contains an alias (*), which is not allowed",
        "good.yaml: name: is the name of the assistant in clash.yaml, too",
        "names.yaml:3: tools.1: there is no tool 'nothing'",
        "names.yaml:4: instructions: uses $nobody, which `variables` does not define",
        "scalar.yaml:1: is not a mapping",
        "several.yaml:6: tools.1.approval: Input should be 'never', 'on_effect' or 'always'",
        "several.yaml:7: extra: Extra inputs are not permitted",
        "syntax.yaml:2: expected the node content, but found '<stream end>'",
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"x" * 140_000, "is longer than"),
        (b"[" * 5_000, ""),
        (b"a: !!python/none x", ""),
    ],
)
def test_file_that_is_none_is_a_fault(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)

    [fault] = read_folder(tmp_path, PLANNER).faults

    assert fault.file == "bad.yaml"
    assert text in fault.text


def test_tool_of_an_mcp_server_may_be_named_before_it_is_known(tmp_path: Path) -> None:
    planner = replace(PLANNER, tool_servers=("shop",))
    write(tmp_path, one="tools: [shop__buy, calculate]\n", two="tools: [store__buy]\n")

    read = read_folder(tmp_path, planner)

    assert list(read.assistants) == ["one"]
    assert [tool.name for tool in planner.plan(read.assistants["one"].spec, "1").tools] == ["calculate"]


def test_version_changes_with_the_content_alone(tmp_path: Path) -> None:
    write(tmp_path, one="description: A\ntools: [calculate]\n")
    before = read_folder(tmp_path, PLANNER).assistants["one"].version
    write(tmp_path, one="# the same\ntools:\n- name: calculate\ndescription: A\n")
    same = read_folder(tmp_path, PLANNER).assistants["one"].version
    write(tmp_path, one="description: B\ntools: [calculate]\n")
    other = read_folder(tmp_path, PLANNER).assistants["one"].version

    assert before == same != other
    assert len(before) == 12


async def test_change_is_taken_up_and_a_broken_one_leaves_what_was_valid(tmp_path: Path) -> None:
    write(tmp_path, one="description: A\n", two="description: B\n")
    source = FileSource(tmp_path)
    await source.refresh(PLANNER)

    write(tmp_path, one="description: Changed\n", two="nonsense: true\n", three="description: C\n")
    await source.refresh(PLANNER)
    described = {name: one.spec.description for name, one in source.assistants.items()}
    (tmp_path / "one.yaml").unlink()
    await source.refresh(PLANNER)

    assert described == {"one": "Changed", "two": "B", "three": "C"}
    assert sorted(source.assistants) == ["three", "two"]


async def test_folder_that_vanishes_leaves_its_assistants(tmp_path: Path) -> None:
    folder = tmp_path / "assistants"
    folder.mkdir()
    source = FileSource(write(folder, one="description: A\n"))
    await source.refresh(PLANNER)
    folder.rename(tmp_path / "away")
    await source.refresh(PLANNER)

    assert list(source.assistants) == ["one"]


def test_plan_has_what_the_description_says_and_no_more() -> None:
    spec = validated(
        {
            "name": "narrow",
            "instructions": "Be $tone.",
            "variables": {"tone": "calm"},
            "models": ["small", "gone"],
            "parameters": {"temperature": 0, "max_output_tokens": 10, "stop": ["END"]},
            "tools": [{"name": "calculate", "timeout_s": 1.5}, {"name": "order", "approval": "never"}, "gone"],
            "memory": "recall",
            "limits": {"rounds": 3, "seconds": 9_999, "tokens": 100},
        }
    )

    plan = PLANNER.plan(spec, "7")

    assert plan.instructions.prompt(["likes tea"]) == "Be calm.\n- likes tea"
    assert [(model.name, model.max_output_tokens) for model in plan.models] == [("small", 10)]
    assert plan.parameters.given() == {"temperature": 0.0, "stop": ["END"]}
    # A description cannot make a tool's own policy less strict.
    assert [(tool.name, tool.timeout_s, tool.approval) for tool in plan.tools] == [
        ("calculate", 1.5, Approval.NEVER),
        ("order", 30.0, Approval.ON_EFFECT),
    ]
    assert (plan.memory.recalls, plan.memory.remembers) == (True, False)
    assert plan.limits == Limits(3, 600.0, 100)
    assert (plan.origin.name, plan.origin.version) == ("narrow", "7")
    assert loaded(stored(plan).data) == plan


def test_description_without_anything_is_the_service_s_own() -> None:
    plan = PLANNER.plan(validated({"name": "plain"}), "1")

    assert replace(plan, origin=BASE.origin) == BASE


@pytest.mark.parametrize("text", ["\x00", "\ud800"])
def test_text_that_cannot_be_stored_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        validated({"name": "a", "description": text})


def test_schema_is_that_of_the_model() -> None:
    assert json.loads((ROOT / "docs/api/assistant.schema.json").read_text()) == json.loads(json.dumps(schema()))


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], tuple[object, str]]:
    for name in ("AGENT_MODELS", "AGENT_ASSISTANTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    # Logs of the whole process.
    monkeypatch.setattr("mesh_agent.assistants_check.configure_logs", lambda *_: None)

    def run(folder: Path) -> tuple[object, str]:
        try:
            assistants_check_main([str(folder)])
        except SystemExit as end:
            return end.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    return run


def test_check_lists_what_is_valid(check: Callable[[Path], tuple[object, str]], tmp_path: Path) -> None:
    write(tmp_path, one="models: [not-checked-without-a-registry]\ntools: [calculate]\n")

    code, printed = check(tmp_path)

    assert code == 0
    assert printed.startswith("one: one.yaml, version ")


def test_check_fails_with_all_faults(check: Callable[[Path], tuple[object, str]], tmp_path: Path) -> None:
    code, _ = check(write(tmp_path, one="tools: [web_search]\n", two="kind: graph\n"))

    assert code == (
        "one.yaml:1: tools.0: there is no tool 'web_search'\n"
        "two.yaml:1: graph: Value error, must be given for the kind `graph`, and for no other"
    )


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_check_of_no_assistants_fails(check: Callable[[Path], tuple[object, str]], tmp_path: Path, folder: str) -> None:
    code, _ = check(tmp_path / folder)

    assert isinstance(code, str)


def test_shipped_assistants_are_valid(check: Callable[[Path], tuple[object, str]]) -> None:
    assert check(ROOT / "assistants")[0] == 0
