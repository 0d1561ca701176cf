"""Many small reads of one large piece of an answer cost as much as a few large ones.

Measured as a ratio of CPU times of one process: four times the data may not cost sixteen times as much.
"""

import time

import pytest
from mesh_agent.llm.completion import Completion
from mesh_agent.llm.openai_compatible.answer_body import AnswerReader

_READ = b"word word word "


def _cpu_s(start: bytes, piece: bytes, reads: int) -> float:
    measured = []
    for _ in range(3):
        reader = AnswerReader(Completion(), lambda _text, _chunks: None)
        begun_s = time.process_time()
        reader.take(start)
        for _ in range(reads):
            reader.take(piece)
        measured.append(time.process_time() - begun_s)
    return min(measured)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(b'data: {"x": "', _READ, id="event"),
        pytest.param(b"data: a\n", b"data: word w\n", id="lines of an event"),
        pytest.param(b'{"x": "', _READ, id="JSON"),
        pytest.param(b"\n", b"\n" * 15, id="blank lines"),
    ],
)
def test_cost_is_linear(start: bytes, piece: bytes) -> None:
    assert _cpu_s(start, piece, 32_000) < 9 * _cpu_s(start, piece, 8_000)
