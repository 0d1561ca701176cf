from typing import Any

import pytest
from pydantic import ValidationError
from simulator.rules import Action, FaultDice, RuleBook, Subject


def subject(**changes: Any) -> Subject:
    fields: dict[str, Any] = {
        "kind": "chat",
        "model": "a",
        "text": "the last user message",
        "texts": ["be brief", "the last user message"],
        "headers": {"x-test": "1"},
        "structured": False,
    }
    return Subject(**(fields | changes))


def book(*rules: dict[str, Any], seed: int = 0) -> RuleBook:
    rule_book = RuleBook(seed)
    rule_book.replace(list(rules))
    return rule_book


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({}, True),
        ({"model": "a"}, True),
        ({"model": "b"}, False),
        ({"contains": "user mess"}, True),
        ({"contains": "be brief"}, False),
        ({"anywhere": "be brief"}, True),
        ({"anywhere": "absent"}, False),
        ({"header": {"X-Test": "1"}}, True),
        ({"header": {"X-Test": "2"}}, False),
        ({"structured": True}, False),
        ({"structured": False}, True),
        ({"kind": "embeddings"}, False),
        ({"probability": 0}, False),
        ({"model": "a", "contains": "absent"}, False),
    ],
)
def test_a_rule_applies_when_all_it_names_holds(match: dict[str, Any], *, holds: bool) -> None:
    rules = book({"match": match, "action": {"reply": "yes"}})

    action = rules.action_for(subject())

    assert (action is not None) is holds


def test_the_first_matching_rule_wins_until_its_times_are_used_up() -> None:
    rules = book(
        {"match": {"times": 2}, "action": {"fault": "500"}},
        {"action": {"reply": "after"}},
    )

    actions = [rules.action_for(subject()) for _ in range(3)]

    assert [action and action.fault for action in actions] == ["500", "500", None]
    assert [rule["hits"] for rule in rules.describe()] == [2, 1]


def test_requests_that_do_not_match_use_up_no_times() -> None:
    rules = book({"match": {"model": "b", "times": 1}, "action": {"fault": "500"}})

    rules.action_for(subject(model="a"))

    assert rules.action_for(subject(model="b")) == Action(fault="500")


def test_probability_is_drawn_with_the_seed() -> None:
    rule = {"match": {"probability": 0.5}, "action": {"fault": "cut"}}

    draws = [[bool(rules.action_for(subject())) for _ in range(200)] for rules in (book(rule), book(rule))]

    assert draws[0] == draws[1]
    assert 70 < sum(draws[0]) < 130


@pytest.mark.parametrize(
    "rules",
    [
        [{"action": {}}],
        [{"action": {"fault": "418"}}],
        [{"action": {"reply": "x"}, "match": {"probability": 2}}],
        [{"action": {"reply": "x"}, "matches": {}}],
        [{"action": {"reply": "x"}, "match": {"times": 0}}],
        {"other": []},
        "rules",
    ],
)
def test_invalid_rules_are_refused_and_change_nothing(rules: object) -> None:
    rule_book = book({"action": {"reply": "kept"}})

    with pytest.raises(ValidationError):
        rule_book.replace(rules)

    assert rule_book.action_for(subject()) == Action(reply="kept")


def test_only_what_a_rule_sets_overrides() -> None:
    directed = Action(tokens=5, itl_ms=20)

    combined = directed.overridden_by(Action(itl_ms=0, fault="cut"))

    assert combined == Action(tokens=5, itl_ms=0, fault="cut")


def test_fault_rates_are_met_and_reproducible() -> None:
    dice = FaultDice(3, {"500": 0.2, "cut": 0.1})

    first = [dice.roll() for _ in range(2_000)]
    dice.reset()
    second = [dice.roll() for _ in range(2_000)]

    assert first == second
    assert first.count("500") == pytest.approx(400, rel=0.2)
    assert first.count("cut") == pytest.approx(200, rel=0.25)
