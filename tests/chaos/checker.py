"""History in, violations out: a pure function. Each rule stands by itself and has bad histories in its tests."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chaos import rules_runs, rules_streams
from chaos.facts import Facts, Violation
from chaos.history import History
from chaos.rules_effects import effects

__all__ = ["Violation", "check"]

RULES: Final[Sequence[Callable[[Facts], Iterator[Violation]]]] = (
    rules_runs.lost_runs,
    rules_runs.runs_twice,
    rules_runs.foreign_runs,
    rules_runs.messages_of_runs,
    rules_runs.order_in_threads,
    rules_runs.causeless_cancels,
    rules_streams.gaps,
    rules_streams.openings,
    rules_streams.terminals,
    rules_streams.disagreements,
    rules_streams.texts,
    rules_streams.strangers,
    effects,
)


def check(history: History) -> list[Violation]:
    facts = Facts(history)
    return [violation for rule in RULES for violation in rule(facts)]
