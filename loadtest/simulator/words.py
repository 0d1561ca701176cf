"""Default answers: N random words, determined by the seed, the model and the user message."""

import random
import re
from functools import cache
from hashlib import blake2b

from simulator.wire import content_delta

_WORDS = (
    "a able about above across after again air all almost along also always an and answer any around as ask at away "
    "back be because before begin below better between big book both bring build but by call can carry change child "
    "city clear close cold come could country day deep did do door down draw each early earth easy eat end enough "
    "even ever every eye fact family far farm feel few field find fire first follow food for form found four free "
    "friend from full garden gave get give go good great green group grow had half hand hard has have he head hear "
    "help her here high hill his hold home hour house how idea if in into island it just keep kind know land large "
    "last late learn leave left letter life light like line list little live long look love made make many mark may "
    "mean might mile mind more morning most mountain move much must name near need never new next night no north "
    "not note now number of off often old on once one only open or order other our out over own page paper part "
    "people place plain plan plant play point question quick quiet rain read ready real red rest right river road "
    "room round run said same sea second see seem set she short should show side simple sing sit small snow so some "
    "song soon sound stand star start state stay step still stone stop story street strong such summer sun sure "
    "table take talk tell than that the their them then there these they thing think this those thought three "
    "through time to together told too top toward town travel tree true try turn two under until up us use very "
    "voice walk want warm was watch water way we week well went were west what wheel when where which while white "
    "who whole why will wind winter with wood word work world would write year yellow yes you young"
)
_VOCABULARY = _WORDS.split()

# Number of start positions. Two different questions get the same answer with probability 1 in this number.
_TABLE_SIZE = 65_536
# Splits long words as a real tokenizer does, so that text without spaces is not a single token.
_TOKEN = re.compile(r"\s*\S{1,12}|\s+")


class Writer:
    """A long random sequence of words. An answer is a part of it, so creating one takes two list slices."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        words = random.Random(seed).choices(_VOCABULARY, k=_TABLE_SIZE)  # noqa: S311 - reproducible text, not a secret
        delta_of = {word: content_delta(" " + word) for word in _VOCABULARY}
        self._tokens = [" " + word for word in words]
        self._deltas = [delta_of[word] for word in words]

    def write(self, model: str, user_message: str, tokens: int) -> tuple[list[str], list[bytes]]:
        """The tokens of the answer and their deltas on the wire, in the same order."""
        start = digest(self._seed, model, user_message) % _TABLE_SIZE
        texts = _stretch(self._tokens, start, tokens)
        deltas = _stretch(self._deltas, start, tokens)
        texts[0] = texts[0].lstrip()
        deltas[0] = content_delta(texts[0])
        return texts, deltas


def _stretch[T](table: list[T], start: int, length: int) -> list[T]:
    stretch = table[start : start + length]
    while len(stretch) < length:
        stretch += table[: length - len(stretch)]
    return stretch


@cache
def writer_for(seed: int) -> Writer:
    return Writer(seed)


def digest(seed: int, *parts: str) -> int:
    """64 bits that determine everything that looks random about one request."""
    text = "\0".join((str(seed), *parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def reply_text(*, seed: int, model: str, user_message: str, tokens: int) -> str:
    """The answer of a simulator with this seed, unless a rule, directive or schema determines another."""
    return "".join(writer_for(seed).write(model, user_message, tokens)[0])


def split_tokens(text: str) -> list[str]:
    """Splits a text into tokens, whose concatenation is the text. An empty text is one empty token."""
    return _TOKEN.findall(text) or [""]
