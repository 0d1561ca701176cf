"""The words with which providers end an answer."""

import pytest
from mesh_agent.llm.finish_reasons import Finish, finish_of


@pytest.mark.parametrize(
    ("finish", "words"),
    [
        (Finish.END, "stop STOP tool_calls function_call end_turn stop_sequence tool_use eos COMPLETE whatever_is_new"),
        (Finish.LENGTH, "length MAX_TOKENS max_tokens model_length max_output_tokens model_context_window_exceeded"),
        (
            Finish.FILTERED,
            (
                "content_filter content-filter refusal SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII "
                "IMAGE_SAFETY sensitive FINISH_REASON_SAFETY response_safety_block"
            ),
        ),
        (
            Finish.FAILED,
            (
                "error network_error abort aborted cancelled timeout insufficient_system_resource "
                "MALFORMED_FUNCTION_CALL OTHER upstream_error request_aborted failed"
            ),
        ),
    ],
)
def test_reason_has_one_meaning(finish: Finish, words: str) -> None:
    assert {word: finish_of(word) for word in words.split()} == dict.fromkeys(words.split(), finish)
