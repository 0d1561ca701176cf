"""Checks a history for violations: a pure function. Each rule is independent and has bad histories in its tests."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chaos import rules_effects, rules_ends, rules_runs, rules_streams
from chaos.facts import Facts, Violation
from chaos.history import History

__all__ = ["Violation", "check"]

RULES: Final[Sequence[Callable[[Facts], Iterator[Violation]]]] = (
    rules_runs.lost_runs,
    rules_runs.runs_twice,
    rules_runs.refused_repetitions,
    rules_runs.foreign_runs,
    rules_runs.messages_of_runs,
    rules_runs.order_in_threads,
    rules_runs.causeless_cancels,
    rules_runs.causeless_takeovers,
    rules_streams.gaps,
    rules_streams.openings,
    rules_streams.terminals,
    rules_streams.disagreements,
    rules_streams.texts,
    rules_streams.strangers,
    rules_streams.stale_owners,
    rules_ends.failures,
    rules_ends.cancels,
    rules_ends.interrupts,
    rules_ends.rejects,
    rules_effects.effects,
    rules_effects.unknowns,
)


def check(history: History) -> list[Violation]:
    facts = Facts(history)
    return [violation for rule in RULES for violation in rule(facts)]
