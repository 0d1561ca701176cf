"""The texts to judge, as data: labelled, delimited by a code that they cannot know, and truncated to a limit."""

from collections.abc import Sequence

from mesh_eval.domain import JudgedRun, Metric, Part

_CUT = " […]"


def texts_to_judge(run: JudgedRun, metric: Metric, *, code: str, max_bytes: int) -> str:
    """The parts of the run that the metric needs, about `max_bytes` of UTF-8 at most, followed by the instruction.

    `code` must be new for each question, so that an END line inside a text does not have the right code.
    """
    texts = [_text_of(run, part) for part in metric.parts]
    blocks = [
        f"BEGIN {part} {code}\n{text}\nEND {part} {code}"
        for part, text in zip(metric.parts, _fitted(texts, max_bytes), strict=True)
    ]
    return "\n\n".join((*blocks, f"Judge the {metric.name} of the ANSWER above."))


def _text_of(run: JudgedRun, part: Part) -> str:
    match part:
        case Part.MESSAGE:
            return run.message
        case Part.ANSWER:
            return run.answer
        case Part.MEMORIES:
            return "\n".join(f"- {memory}" for memory in run.memories) or "(none)"
        case Part.TOOL_RESULTS:
            lines = [f"- {result.tool}({result.arguments_json}): {result.content}" for result in run.tool_results]
            return "\n".join(lines) or "(none)"


def _fitted(texts: Sequence[str], max_bytes: int) -> list[str]:
    """Keeps short texts complete. Long ones share the remaining bytes evenly and are truncated at their end.

    Counts bytes, not characters: in the tokenizer of a small English model, a Korean syllable has up to three tokens.
    """
    left = max_bytes
    fitted = list(texts)
    by_size = sorted(range(len(texts)), key=lambda index: len(texts[index].encode()))
    for done, index in enumerate(by_size):
        fitted[index] = _cut(texts[index], left // (len(texts) - done))
        left -= len(fitted[index].encode())
    return fitted


def _cut(text: str, max_bytes: int) -> str:
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    return encoded[: max(0, max_bytes - len(_CUT.encode()))].decode(errors="ignore") + _CUT
