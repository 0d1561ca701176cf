import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_eval.domain import InvalidAnswer, Verdict, parse_verdict


@pytest.mark.parametrize(("score", "value"), [("0", 0.0), ("1", 1.0), ("0.5", 0.5), ("1e-1", 0.1)])
def test_a_score_from_0_to_1_with_reasoning_is_a_verdict(score: str, value: float) -> None:
    verdict = parse_verdict(f'{{"reasoning": " clear ", "score": {score}}}')

    assert verdict == Verdict(value, "clear")


@pytest.mark.parametrize(
    "answer",
    [
        'Sure! {"reasoning": "r", "score": 0.5}',
        '{"reasoning": "r", "score": 0.5} I hope this helps.',
        '```json\n{"reasoning": "r", "score": 0.5}\n```',
        '<think>{"score": 0.1}?</think>\n{"reasoning": "r", "score": 0.5}',
        'As {"asked": true}: {"reasoning": "r", "score": 0.5}',
        '{"reasoning": "r", "score": "0.5"}',
    ],
)
def test_verdict_is_read_whatever_surrounds_it(answer: str) -> None:
    assert parse_verdict(answer) == Verdict(0.5, "r")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I give it 0.5.",
        'Sure! {"reasoning": "r", "score": 85}',
        "<think>0.5</think>",
        '{"reasoning": "r", "score": 0.',
        '{"reasoning": "r", "score": 1.01}',
        '{"reasoning": "r", "score": -0.01}',
        '{"reasoning": "r", "score": NaN}',
        '{"reasoning": "r", "score": Infinity}',
        '{"reasoning": "r", "score": 1e999}',
        '{"reasoning": "r", "score": "85"}',
        '{"reasoning": "r", "score": "1.5"}',
        '{"reasoning": "r", "score": "high"}',
        '{"reasoning": "r", "score": 7}',
        '{"reasoning": "r", "score": true}',
        '{"reasoning": "r", "score": null}',
        '{"reasoning": "r"}',
        '{"score": 0.5}',
        '{"reasoning": "  ", "score": 0.5}',
        '{"reasoning": 7, "score": 0.5}',
        "[0.5]",
        "0.5",
        "[" * 100_000,
    ],
)
def test_anything_else_is_no_verdict(answer: str) -> None:
    with pytest.raises(InvalidAnswer):
        parse_verdict(answer)


@given(st.text())
def test_no_text_makes_the_parser_raise_anything_else(answer: str) -> None:
    try:
        verdict = parse_verdict(answer)
    except InvalidAnswer:
        return

    assert 0 <= verdict.value <= 1


def test_score_alone_is_a_verdict_only_where_no_reasoning_was_asked() -> None:
    assert parse_verdict('{"score": 0.5}', has_reasoning=False) == Verdict(0.5, "")
    with pytest.raises(InvalidAnswer):
        parse_verdict('{"score": 0.5}')


def test_reasoning_is_cut_and_made_storable() -> None:
    verdict = parse_verdict('{"reasoning": "a\\u0000b\\ud800' + "c" * 5_000 + '", "score": 1}')

    assert verdict.reasoning.startswith("ab?ccc")
    assert len(verdict.reasoning) == 4_000
