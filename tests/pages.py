"""Reads the commands and code blocks in the Markdown of README, CONTRIBUTING and docs.

Indented blocks are shell commands. Fenced blocks name their language: ``python``, ``diff`` (of a
file of this repository), ``bash`` (a script) or ``text`` (anything else).
"""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = ("README.md", "CONTRIBUTING.md", *GUIDES)
LANGUAGES = ("python", "diff", "bash", "text")
INDENTED = "indented"


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of a page: the number of its first line, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{Path(self.page).name}:{self.line}"


def read_blocks(page: str) -> Iterator[Block]:
    """All blocks of a page, in order."""
    lines = (ROOT / page).read_text().splitlines()
    number = 0
    while number < len(lines):
        start, line = number, lines[number]
        if line.startswith("```"):
            number = lines.index("```", start + 1)
            text = "\n".join(lines[start + 1 : number])
            yield Block(page, start + 2, line.removeprefix("```").strip(), text)
        elif line.startswith("    ") and not lines[start - 1].strip():
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                number += 1
            text = "\n".join(part[4:] for part in lines[start:number]).rstrip()
            yield Block(page, start + 1, INDENTED, text)
            continue
        number += 1


def all_blocks() -> list[Block]:
    """The blocks of all pages, except docs/add_a_model.md: see `tests.test_add_a_model`."""
    pages = (page for page in PAGES if page != "docs/add_a_model.md")
    return [block for page in pages for block in read_blocks(page)]


def read_commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Place and words of each command of a block; joins continued lines and drops comments."""
    text, start = "", block.line
    for number, line in enumerate(block.text.splitlines(), start=block.line):
        start = start if text else number
        text += line.removesuffix("\\") + ("" if line.endswith("\\") else "\n")
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(text, comments=True)
        except ValueError:  # a quotation that ends on a later line
            continue
        text = ""
        for part in split(words, "&&"):
            yield f"{Path(block.page).name}:{start}", part
    if text:
        raise ValueError(f"{block.place}: a command that does not end")


def split(words: list[str], separator: str) -> Iterator[list[str]]:
    """The non-empty runs of words between separators."""
    part: list[str] = []
    for word in [*words, separator]:
        if word != separator:
            part.append(word)
        elif part:
            yield part
            part = []


def inline_commands(page: str) -> list[tuple[str, list[str]]]:
    """Place and words of each ``python -m ...`` in the running text and the tables of a page."""
    text = (ROOT / page).read_text()
    for block in read_blocks(page):
        text = text.replace(block.text, "\n" * block.text.count("\n"))
    return [
        (f"{Path(page).name}:{text[: match.start()].count(chr(10)) + 1}", shlex.split(match[1]))
        for match in re.finditer(r"`(python -m [^`]+)`", text)
    ]
