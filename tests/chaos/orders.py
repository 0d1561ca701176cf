"""Orders drawn from a seed: the user's message tells the simulator what to answer, so that the answer is known."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from mesh_common.ids import new_id

from chaos.history import Order

_WORDS: Final = ("amber", "birch", "copper", "delta", "ember", "fjord", "grove", "harbour", "island", "juniper")
# Long, because a kill does most harm in the middle of a call.
_MAX_TOOL_PAUSE_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Pace:
    """The ranges from which the length and the speed of answers are drawn."""

    words: range = range(3, 50)
    ttft_ms: Sequence[int] = (0, 20, 200)
    itl_ms: Sequence[int] = (0, 10, 30, 60)


_USUAL: Final = Pace()


def make_order(rng: random.Random, user: str, thread_id: str | None, pace: Pace = _USUAL) -> Order:
    """An order with a unique message and unique tokens."""
    mark = new_id().hex
    once = [f"o{number}-{mark}" for number in range(rng.choices((0, 1, 2), (3, 2, 1))[0])]
    idempotent = [f"i{number}-{mark}" for number in range(rng.choices((0, 1), (3, 1))[0])]
    reply = " ".join(["Answer", mark, *rng.choices(_WORDS, k=rng.choice(pace.words))]) + "."
    calls = [_tool(rng, "mark_once", token) for token in once]
    calls += [_tool(rng, "mark_idempotent", token) for token in idempotent]
    rng.shuffle(calls)
    drawn = f"[[sim:ttft={rng.choice(pace.ttft_ms)}]][[sim:itl={rng.choice(pace.itl_ms)}]]"
    return Order(
        user=user,
        key=f"key-{mark}",
        message=f"Say {mark}. {drawn}{''.join(calls)}[[sim:reply={reply}]]",
        reply=reply,
        thread_id=thread_id,
        once_tokens=tuple(once),
        idempotent_tokens=tuple(idempotent),
    )


def _tool(rng: random.Random, name: str, token: str) -> str:
    arguments = {"token": token, "pause_ms": rng.randrange(_MAX_TOOL_PAUSE_MS)}
    return f"[[sim:tool={name} {orjson.dumps(arguments).decode()}]]"
