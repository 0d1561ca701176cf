import re
from pathlib import Path

import orjson
from simulator.directives import parse_directives
from simulator.rules import RuleBook

README = (Path(__file__).parents[3] / "loadtest" / "simulator" / "README.md").read_text()


def test_the_rules_of_the_manual_are_valid() -> None:
    blocks = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    rules = RuleBook(seed=0)

    for block in blocks:
        rules.replace(orjson.loads(block))

    assert len(rules.describe()) == 3


def test_the_directives_of_the_manual_are_understood() -> None:
    directives = [text for text in re.findall(r"`(\[\[sim:.*?\]\])`", README) if "…" not in text]

    assert len(directives) >= 9
    assert all(parse_directives(directive) for directive in directives)
