"""The assertions for every storm."""

from chaos.figures.report import spread
from chaos.history import History

from cluster.report import Figures
from cluster.storm import Storm


def keeps_promises(figures: Figures, one: Storm, what: str) -> None:
    """Asserts that the checker found no violation. Reports the figures in any case."""
    figures.say(f"{what}: {one}, {_takeovers(one.history)}")
    for violation in one.violations:
        figures.say(f"  {violation}")
    assert not one.violations


def _takeovers(history: History) -> str:
    """How long runs paused until the next attempt began, as their followers observed."""
    stood_still_s = []
    for stream in history.streams:
        if stream.is_replay:
            continue
        before_s = 0.0
        for event in stream.events:
            if event.type == "run_restarted" and before_s:
                stood_still_s.append(event.at_s - before_s)
            before_s = event.at_s
    return f"takeover {spread(stood_still_s, digits=1)}" if stood_still_s else "no takeover"
