from typing import Any

import pytest
from mesh.eval.v1 import eval_pb2
from mesh_common.errors import InvalidInput
from mesh_eval.convert import judged_run, scores_response
from mesh_eval.domain import JudgedRun, RunScores, ScoreStatus
from support.eval import some_run, some_score, submission


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"run_id": "7"}, "run_id"),
        ({"run_id": ""}, "run_id"),
        ({"input": ""}, "input"),
        ({"input": "x" * 32_001}, "input"),
        ({"input": "a\x00b"}, "input"),
        ({"answer": " "}, "answer"),
        ({"answer": "x" * 128_001}, "answer"),
        ({"answer": "a\x00b"}, "answer"),
        ({"memories": ["m"] * 51}, "memories"),
        ({"memories": ["m", "a\x00b"]}, "memories[1]"),
        ({"tool_results": [eval_pb2.ToolResult(tool="t")] * 51}, "tool_results"),
        ({"tool_results": [eval_pb2.ToolResult(tool="")]}, "tool_results[0].tool"),
        ({"tool_results": [eval_pb2.ToolResult(tool="t", arguments_json="\x00")]}, "tool_results[0].arguments_json"),
        ({"tool_results": [eval_pb2.ToolResult(tool="t", content="\x00")]}, "tool_results[0].content"),
        ({"model": ""}, "model"),
        ({"model": "x" * 201}, "model"),
    ],
)
def test_a_submission_out_of_bounds_is_refused_naming_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        judged_run(submission(**changes))

    assert [fault.field for fault in refused.value.fields] == [field]


def test_a_submission_at_its_bounds_is_taken_and_tool_results_are_cut() -> None:
    result = eval_pb2.ToolResult(tool="t", arguments_json="{}", content="c" * 9_000)
    request = submission(input="x" * 32_000, answer="y" * 128_000, memories=["m"] * 50, tool_results=[result] * 50)

    run = judged_run(request)

    assert len(run.memories) == len(run.tool_results) == 50
    assert len(run.tool_results[0].content) == 8_000


def test_a_run_survives_the_queue() -> None:
    run = some_run()

    assert JudgedRun.from_payload(run.as_payload()) == run


def test_a_failed_score_has_no_value_on_the_wire() -> None:
    failed = some_score(status=ScoreStatus.FAILED, value=None, reasoning="")

    response = scores_response(RunScores((failed, some_score("relevancy", value=0.0)), is_pending=False))

    assert [score.status for score in response.scores] == [
        eval_pb2.SCORE_STATUS_FAILED,
        eval_pb2.SCORE_STATUS_SUCCEEDED,
    ]
    assert [score.HasField("value") for score in response.scores] == [False, True]
    assert response.scores[0].created_at.ToDatetime(failed.created_at.tzinfo) == failed.created_at
