"""Deterministic embeddings from hashed words and character n-grams, so that texts that share words are close.

They know no meaning: "cat" and "kitten" are unrelated. But the same text gives the same vector on every machine, a
question about a fact is nearer to that fact than to others, and Korean works by syllable pairs (particles differ, stems
agree).
"""

import math
import re
import unicodedata
from array import array
from collections.abc import Iterator
from functools import lru_cache
from zlib import crc32

_WORD = re.compile(r"\w+")
_WORD_WEIGHT = 1.0
_NGRAM_WEIGHT = 0.35
# Words that say nothing about the subject; `query` and `passage` are the prefixes of e5 models.
_COMMON_WEIGHT = 0.1
_COMMON_WORDS = (
    "a an and are as at be been but by can did do does for from had has have he her his how i in is it its me my of on "
    "or our passage query she so that the their them they this to user was we were what when where which who why will "
    "with you your 은 는 이 가 을 를 의 에 나는 저는 내 제"
)
_COMMON = frozenset(_COMMON_WORDS.split())


@lru_cache(maxsize=8192)
def embed(text: str, dimensions: int) -> array[float]:
    """A vector of length 1 (float32). Callers must not modify it, because it is cached."""
    vector = [0.0] * dimensions
    for feature, weight in _features(text):
        hashed = crc32(feature.encode("utf-8", "surrogatepass"))
        # The sign comes from a bit that the index does not use, so that unrelated texts have a cosine near 0, not 1.
        vector[(hashed >> 1) % dimensions] += weight if hashed & 1 else -weight
    norm = math.sqrt(sum(value * value for value in vector))
    if norm == 0:
        vector[0] = norm = 1.0
    return array("f", (value / norm for value in vector))


def _features(text: str) -> Iterator[tuple[str, float]]:
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if not words:
        yield text, _WORD_WEIGHT
    for word in words:
        if word in _COMMON:
            yield word, _COMMON_WEIGHT
            continue
        yield word, _WORD_WEIGHT
        size = 3 if word.isascii() else 2
        padded = f"<{word}>"
        for start in range(len(padded) - size + 1):
            yield "#" + padded[start : start + size], _NGRAM_WEIGHT
