"""The code blocks and links of a Markdown file."""

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt

SKIP = re.compile(r"<!--\s*skip:(?P<reason>.*?)-->", re.DOTALL)


@dataclass
class Block:
    """A fenced block: its language, its text, the line of the file it starts on (from 0)."""

    language: str
    code: str
    line: int
    skip: str | None = None


def fenced_blocks(text):
    """Return the fenced blocks of a text; a comment ``<!-- skip: reason -->`` marks the next."""
    blocks = []
    skip = None
    for token in MarkdownIt().parse(text):
        if token.type == "fence":
            blocks.append(Block(token.info.strip(), token.content, token.map[0] + 1, skip))
            skip = None
        elif token.type == "html_block" and (found := SKIP.search(token.content)):
            skip = found["reason"].strip()
    return blocks


def as_script(blocks):
    """Return one script of the blocks, each on the lines it has in its file, for tracebacks."""
    lines = []
    for block in blocks:
        lines += [""] * (block.line - len(lines))
        lines += block.code.splitlines()
    return "\n".join(lines) + "\n"


def relative_links(text):
    """Return the targets of links and pictures that are files beside the text."""
    targets = []
    for token in MarkdownIt().parse(text):
        for child in token.children or []:
            target = child.attrGet("href") or child.attrGet("src")
            if target and not re.match(r"[a-z]+:|#", target):
                targets.append(target.partition("#")[0])
    return targets
