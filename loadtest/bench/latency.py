"""The latency of turns as clients observe it, in milliseconds. Figures named `added` exclude the model's own time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from bench.stack import Pace
from bench.statistics import percentiles
from bench.wire import Turn


def felt(turns: Sequence[Turn], pace: Pace) -> dict[str, float]:
    """Percentiles over the successful turns, measured from the time when each was due."""
    good = [turn for turn in turns if turn.has_succeeded]
    first = [(turn.first_token_s - turn.due_s) * 1_000 - pace.ttft_ms for turn in good]
    whole = [(turn.ended_s - turn.due_s - pace.turn_s) * 1_000 for turn in good]
    gaps = [
        (after - before) * 1_000 for turn in good for before, after in pairwise([turn.first_token_s, *turn.arrivals_s])
    ]
    return {
        **percentiles("added_first_token_ms", first),
        **percentiles("added_turn_ms", whole),
        **percentiles("frame_gap_ms", gaps),
    }


def ends(turns: Sequence[Turn]) -> Mapping[str, int]:
    """The number of turns by how they ended. `lost_frames` are turns with a gap in their sequence."""
    counted = Counter("lost_frames" if turn.lost_frames else turn.end for turn in turns)
    return dict(counted.most_common())


def success(turns: Sequence[Turn]) -> float:
    return sum(turn.has_succeeded for turn in turns) / len(turns) if turns else 0.0
