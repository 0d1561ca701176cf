"""Orders drawn from a seed: what the user says tells the simulator what to answer, so that the answer is known."""

import random
from typing import Final

import orjson
from mesh_common.ids import new_id

from chaos.history import Order

_WORDS: Final = ("amber", "birch", "copper", "delta", "ember", "fjord", "grove", "harbour", "island", "juniper")
# Long, for it is in the middle of a call that a kill does most.
_MAX_TOOL_PAUSE_MS: Final = 1_000


def make_order(rng: random.Random, user: str, thread_id: str | None) -> Order:
    """Its message and its tokens have never been before."""
    mark = new_id().hex
    once = [f"o{number}-{mark}" for number in range(rng.choices((0, 1, 2), (3, 2, 1))[0])]
    idempotent = [f"i{number}-{mark}" for number in range(rng.choices((0, 1), (3, 1))[0])]
    reply = " ".join(["Answer", mark, *rng.choices(_WORDS, k=rng.randrange(3, 50))]) + "."
    calls = [_tool(rng, "mark_once", token) for token in once]
    calls += [_tool(rng, "mark_idempotent", token) for token in idempotent]
    rng.shuffle(calls)
    pace = f"[[sim:ttft={rng.choice((0, 20, 200))}]][[sim:itl={rng.choice((0, 10, 30, 60))}]]"
    return Order(
        user=user,
        key=f"key-{mark}",
        message=f"Say {mark}. {pace}{''.join(calls)}[[sim:reply={reply}]]",
        reply=reply,
        thread_id=thread_id,
        once_tokens=tuple(once),
        idempotent_tokens=tuple(idempotent),
    )


def _tool(rng: random.Random, name: str, token: str) -> str:
    arguments = {"token": token, "pause_ms": rng.randrange(_MAX_TOOL_PAUSE_MS)}
    return f"[[sim:tool={name} {orjson.dumps(arguments).decode()}]]"
