"""Proto to domain and back. The bounds are documented in eval.proto."""

from collections.abc import Sequence

from mesh.eval.v1 import eval_pb2
from mesh_common.errors import InvalidInput
from mesh_common.ids import parse_id

from mesh_eval.domain import JudgedRun, RunScores, Score, ScoreStatus, ToolResult

_MAX_INPUT_CHARS = 32_000
_MAX_ANSWER_CHARS = 128_000
_MAX_ITEMS = 50
_MAX_TOOL_CHARS = 8_000
_MAX_MODEL_CHARS = 200

_STATUSES = {
    ScoreStatus.SUCCEEDED: eval_pb2.SCORE_STATUS_SUCCEEDED,
    ScoreStatus.FAILED: eval_pb2.SCORE_STATUS_FAILED,
}


def judged_run(request: eval_pb2.SubmitRunRequest) -> JudgedRun:
    """Raises InvalidInput."""
    _check_count("memories", request.memories)
    _check_count("tool_results", request.tool_results)
    return JudgedRun(
        id=parse_id(request.run_id, "run_id"),
        message=_text("input", request.input, _MAX_INPUT_CHARS),
        answer=_text("answer", request.answer, _MAX_ANSWER_CHARS),
        memories=tuple(_without_nul(f"memories[{index}]", text) for index, text in enumerate(request.memories)),
        tool_results=tuple(
            _tool_result(f"tool_results[{index}]", result) for index, result in enumerate(request.tool_results)
        ),
        model=_text("model", request.model, _MAX_MODEL_CHARS),
    )


def scores_response(found: RunScores) -> eval_pb2.ListScoresResponse:
    return eval_pb2.ListScoresResponse(scores=[_score(score) for score in found.scores], is_pending=found.is_pending)


def _score(score: Score) -> eval_pb2.Score:
    message = eval_pb2.Score(
        name=score.name,
        status=_STATUSES[score.status],
        value=score.value,
        reasoning=score.reasoning,
        judge_model=score.judge_model,
        prompt_hash=score.prompt_hash,
    )
    message.created_at.FromDatetime(score.created_at)
    return message


def _tool_result(field: str, result: eval_pb2.ToolResult) -> ToolResult:
    return ToolResult(
        tool=_text(f"{field}.tool", result.tool, _MAX_TOOL_CHARS),
        arguments_json=_without_nul(f"{field}.arguments_json", result.arguments_json)[:_MAX_TOOL_CHARS],
        content=_without_nul(f"{field}.content", result.content)[:_MAX_TOOL_CHARS],
    )


def _check_count(field: str, items: Sequence[object]) -> None:
    if len(items) > _MAX_ITEMS:
        raise InvalidInput.of_field(field, f"send at most {_MAX_ITEMS}")


def _text(field: str, text: str, max_chars: int) -> str:
    if not text.strip():
        raise InvalidInput.of_field(field, "must not be empty")
    if len(text) > max_chars:
        raise InvalidInput.of_field(field, f"must have at most {max_chars} characters")
    return _without_nul(field, text)


def _without_nul(field: str, text: str) -> str:
    # The only character that PostgreSQL cannot store.
    if "\x00" in text:
        raise InvalidInput.of_field(field, "must not contain NUL characters")
    return text
