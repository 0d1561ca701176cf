"""Commands in shell blocks of the documentation."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from support.doc_blocks import Block

# Matches programs whose commands are checked here, where a command may begin, with variables set only for it.
_COMMAND: Final = re.compile(
    r"(?:^|[|;({!]|&&|\b(?:do|then|if|until|while)\b)[ \t]*(?:[A-Z_]+=\S+[ \t]+)*"
    r"(?P<command>(?:kubectl|helm|make|pg_basebackup|\S*\bpython)\b)",
    re.MULTILINE,
)
_VARIABLES: Final = {"NAMESPACE": "mesh", "RELEASE": "mesh", "service": "agent"}
_ENDS: Final = set("|;&()<>\n")


@dataclass(frozen=True, slots=True)
class Command:
    """`words` as the shell passes them, the program first. Values that only the shell knows are replaced by `any`."""

    block: Block
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0].rpartition("/")[2]

    @property
    def inner(self) -> "Command | None":
        """The command that `kubectl exec … -- COMMAND` runs in the pod."""
        if self.words[0] == "kubectl" and "exec" in self.words and "--" in self.words:
            return Command(self.block, self.words[self.words.index("--") + 1 :])
        return None

    def __str__(self) -> str:
        return f"{self.block}: {' '.join(self.words)}"


def commands_of(block: Block) -> Iterator[Command]:
    text = re.sub(r"^\s*#.*$", "", block.text, flags=re.MULTILINE).replace("\\\n", " ")
    for match in _COMMAND.finditer(text):
        command = Command(block, tuple(_words(text[match.start("command") :])))
        yield command
        if command.inner:
            yield command.inner


def _words(text: str) -> Iterator[str]:
    """The words up to the end of the command."""
    lexer = shlex.shlex(_expanded(text), posix=True, punctuation_chars="|;&()<>\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    while (word := lexer.get_token()) is not None and not set(word) <= _ENDS:
        yield word


def _expanded(text: str) -> str:
    text = re.sub(r"\$(\w+)\b", lambda match: _VARIABLES.get(match[1], "any"), text)
    # Innermost first.
    while (shorter := re.sub(r"\$\([^()]*\)", "any", text)) != text:
        text = shorter
    return re.sub(r"\$\{[^}]*\}", "any", text)
