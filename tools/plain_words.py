"""Checks docstrings, comments and pages against the rules of CONTRIBUTING.md for plain words; `make lint` runs it.

It finds sentences that are turned round ("Of the metrics, the first ..."), sentences that are too long, and words of
our own that ARCHITECTURE.md's glossary does not have. It cannot tell good prose from bad: a reader does that.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

MOST_WORDS = 34
"""In one sentence. Longer ones hold two thoughts."""

TURNED_ROUND = re.compile(
    r"^(Of (the|a|an|which|what|those)|Likewise|What (is|was|had|has|stands|comes|holds)|Whatever|"
    r"Who(ever)? |Whether |Which |So long|That which|How (often|long|much|far) )"
)
"""Openings after which the subject comes too late. `How a ...` as a title is fine."""

OWN_WORDS = {
    r"\bcounts for nothing\b": "is not measured",
    r"\binfinite room\b": "an endless queue",
    r"\bnobody (yet )?was\b": "no client was",
    r"\bby heart\b": "exactly (memorised)",
    r"\bgoes? before\b": "takes precedence over",
    r"\bis told\b": "say who tells whom",
    r"\bstands in no row\b": "is not in the table",
    r"\b[Ww]hoever\b": "name who it is",
}
"""Turns of phrase that a newcomer asks about, and what to write in their place."""

_CODE = re.compile(r"`[^`]*`|\([^()]*\)|https?://\S+")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z`\"'(])")


def faults(text: str) -> Iterator[str]:
    """Yield the faults of a piece of prose."""
    for paragraph in re.split(r"\n\s*\n|\n\s*(?=[-*|] )|\n(?=\s*[a-z_, ]+: )", text):
        flat = " ".join(paragraph.split())
        for sentence in _SENTENCE_END.split(flat):
            if TURNED_ROUND.match(sentence):
                yield f"turn it round: {sentence[:70]!r}"
            words = len(_CODE.sub("x", sentence).split())
            if words > MOST_WORDS:
                yield f"{words} words in one sentence: {sentence[:70]!r}"
            for pattern, instead in OWN_WORDS.items():
                if re.search(pattern, sentence):
                    yield f"write {instead!r}: {sentence[:70]!r}"


def python_prose(source: str) -> Iterator[tuple[int, str]]:
    """Docstrings, strings that stand under a constant, and comments, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, text = token.start[0], token.string.lstrip("#!: ")
        if block and line == last + 1:
            block.append(text)
        else:
            if block:
                yield first, " ".join(block)
            block, first = [text], line
        last = line
    if block:
        yield first, " ".join(block)


def script_prose(source: str) -> Iterator[tuple[int, str]]:
    """Comments of JavaScript and CSS, each with its line."""
    for match in re.finditer(r"/\*\*?(.*?)\*/|(?<![:\"'`])//(.*)", source, re.DOTALL):
        text = match.group(1) if match.group(1) is not None else match.group(2).split("\n")[0]
        line = source.count("\n", 0, match.start()) + 1
        for part in re.split(r"\*\s+@\w+", text):  # a tag such as @param begins a sentence of its own
            yield line, re.sub(r"\n\s*\*? ?", " ", part)


def page_prose(source: str) -> Iterator[tuple[int, str]]:
    """Paragraphs of Markdown without code blocks and tables, each with its line."""
    code = False
    paragraph: list[str] = []
    for number, line in enumerate([*source.split("\n"), ""], start=1):
        if line.startswith("```"):
            code = not code
        if code or not line.strip() or line.startswith(("```", "|", "#", "    ", "- ", "* ")):
            if paragraph:
                yield number - len(paragraph), " ".join(paragraph)
            paragraph = [line[2:]] if line.startswith(("- ", "* ")) and not code else []
        else:
            paragraph.append(line)


READERS = {".py": python_prose, ".js": script_prose, ".css": script_prose, ".md": page_prose}


def main(names: list[str]) -> int:
    """Check the files, or all of the repository's; prints `path:line: fault` and returns how many there are."""
    if not names:
        listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
        names = [name for name in listed.splitlines() if not Path(name).is_symlink()]
    found = 0
    for name in names:
        reader = READERS.get(Path(name).suffix)
        if reader is None or name.startswith(("bench/results/", "weights/")):
            continue
        for line, text in reader(Path(name).read_text()):
            for fault in faults(text):
                found += 1
                print(f"{name}:{line}: {fault}")
    return found


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
