"""JSON in the answers of models, in the forms that they send it."""

from typing import Any

import pytest
from mesh_common.model_json import json_values

FACTS = {"memory": [{"text": "I like tea."}]}
JSON = '{"memory": [{"text": "I like tea."}]}'


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (JSON, [FACTS]),
        (f"\ufeff{JSON}\n", [FACTS]),
        (f"```json\n{JSON}\n```", [FACTS]),
        (f"```\n{JSON}\n```", [FACTS]),
        (f"```JSON\r\n{JSON}\r\n```\r\n", [FACTS]),
        (f"Here you are:\n\n```json\n{JSON}\n```\nAnything else?", [FACTS]),
        (f"<think>The user likes {{tea}}.\n</think>\n{JSON}", [FACTS]),
        (f'<think>{{"memory": []}}</think>\n\n{JSON}', [FACTS]),
        (f'Maybe {{"memory": []}}?\n</think>{JSON}', [FACTS]),
        (f"<thinking>Hm.</thinking>```json\n{JSON}\n```", [FACTS]),
        (f"Sure! The facts [as asked] are: {JSON}", [FACTS]),
        (f"{JSON}\nI found one fact.", [FACTS]),
        (f"In the form {{memory: …}}: {JSON}", [FACTS]),
        ('[{"text": "a"}]', [[{"text": "a"}]]),
        ('Facts: ["a", "b"]', [["a", "b"]]),
        ('{"text": "a ```json\\n{}\\n``` b"}', [{"text": "a ```json\n{}\n``` b"}]),
        ('{"text": "Ends with </think>."}', [{"text": "Ends with </think>."}]),
        ('{"text": "a\nb"}', [{"text": "a\nb"}]),
    ],
)
def test_json_is_found_whatever_surrounds_it(text: str, values: list[Any]) -> None:
    first = next(json_values(text))

    assert first in values


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "null",
        '"text"',
        "Sure! Here are the facts.",
        "I cannot help with that.",
        '{"memory": [{"text": "I like tea."}, {"te',
        '{"memory": [{"text": "I like tea."}, {"text": "I like co',
        '{"memory": [{"text": "I like tea."}]',
        f"```json\n{JSON[:-1]}\n",
        '[{"text": "I like tea."}, ',
        '{"score": NaN}',
        '{"score": -Infinity}',
        f"<think>Perhaps {JSON}",
        "[" * 100_000,
        '{"a":' * 100_000,
        "{" * 100_000,
    ],
)
def test_nothing_is_read_from_what_is_no_whole_json(text: object) -> None:
    assert list(json_values(text)) == []


def test_several_values_come_in_their_order() -> None:
    values = list(json_values('First {"a": 1}, then {"b": 2}.'))

    assert values == [{"a": 1}, {"b": 2}]
