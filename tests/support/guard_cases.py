"""Texts for the guard's detector: a line more here is a case more.

WORK: what a model is rightly asked to write; no alarm, wherever it stands.
LOOPS: blocks that a model says for ever.
DRIFTS: blocks of which something changes with each copy.
"""

from __future__ import annotations

import base64
import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORDS = [
    "the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are",
    "as", "with", "his", "they", "at", "be", "this", "have", "from", "or", "one", "had", "by",
    "word", "but", "not", "what", "all", "were", "we", "when", "your", "can", "said", "there",
    "use", "an", "each", "which", "she", "do", "how", "server", "answer", "file", "check", "maybe",
]  # fmt: skip


def prose(size: int, seed: int = 0) -> str:
    """So many characters of sentences whose words stand in no order."""
    draw = random.Random(seed)
    text = ""
    while len(text) < size:
        text += " ".join(draw.choices(WORDS, k=draw.randrange(5, 14))).capitalize() + ". "
    return text[: size - 1] + " " if size else ""


def fenced(text: str, kind: str = "") -> str:
    return f"Here it is:\n\n```{kind}\n{text}\n```\n\nThat is all of it. "


def _rows(count: int, row: Callable[[int], str]) -> str:
    return "".join(row(n) for n in range(count))


_HEX = random.Random(7).randbytes(6000).hex()
_OBJECT = {"id": 0, "name": "example", "active": True, "tags": []}
_EDGE = "+" + "-" * 58 + "+\n"
_REFRAIN = (
    "Row, row, row your boat,\nGently down the stream.\nMerrily, merrily, merrily, merrily,\n"
)

# Named in facts/loop-detection.md as false alarms of the naive rule, of the better one, or of one
# that makes digits equal; then the classes of hard case H14; then what else comes to mind.
WORK: dict[str, str] = {
    "a vector of 256 zeros": "[" + "0, " * 255 + "0]",
    "128 bytes 0x00": "{" + "0x00, " * 127 + "0x00}",
    "512 bytes 0x00": "{" + "0x00, " * 511 + "0x00}",
    "512 bytes 0x00 in lines": ("    " + "0x00, " * 12 + "\n") * 43,
    "1,000 zeros": "[" + "0, " * 999 + "0]",
    "1,000 zeros with a point": "[" + "0.0, " * 999 + "0.0]",
    "1,000 zeros, bare": "0" * 1000,
    "a 32 x 32 zero matrix": "[" + ("[" + "0, " * 31 + "0],\n ") * 32 + "]",
    "a 32 x 32 unit matrix": _rows(32, lambda i: " ".join("01"[i == j] for j in range(32)) + "\n"),
    "300 equals signs": "=" * 300,
    "dots of 400 tests": "." * 400 + " [100%]",
    "base64 of 512 zero bytes": base64.b64encode(bytes(512)).decode(),
    "an empty table of 40 rows": "| a | b | c |\n|---|---|---|\n" + "|   |   |   |\n" * 40,
    "a box of 60 x 20": _EDGE + ("|" + " " * 58 + "|\n") * 18 + _EDGE,
    "20 equal JSON objects": json.dumps([_OBJECT] * 20, indent=2),
    "100 equal JSON objects": json.dumps([_OBJECT] * 100),
    "100 equal JSON objects, indented": json.dumps([_OBJECT] * 100, indent=2),
    "16 equal unrolled lines": "    acc = acc * x + c[i]; i = i + 1;\n" * 16,
    "64 nops": "    nop\n" * 64,
    "100 hard blanks": "&nbsp;" * 100,
    "a sentence 20 times": "I will not talk in class again, whatever they say to me.\n" * 20,
    "a sentence 50 times": "I will not talk in class again, whatever they say to me.\n" * 50,
    "a short sentence 50 times": "I am sorry. " * 50,
    "a text of 1.3k four times": prose(1300, 1) * 4,
    "a list 0..999": ", ".join(map(str, range(1000))),
    "a list 0..999 in lines": "\n".join(map(str, range(1000))),
    "1,000 random integers": ", ".join(str(random.Random(n).randrange(1000)) for n in range(1000)),
    "a numbered list of 100": _rows(100, lambda n: f"{n + 1}. Item number {n + 1} of the list.\n"),
    "a numbered list of 300": _rows(300, lambda n: f"{n + 1}. The answer to question {n + 1}.\n"),
    "200 rows of CSV": _rows(200, lambda n: f"{n},user{n},u{n}@example.com,{n * 37 % 100},true\n"),
    "80 SQL inserts": _rows(80, lambda n: f"INSERT INTO users VALUES ({n}, 'user{n}', {n * 7});\n"),
    "300 SQL inserts": _rows(300, lambda n: f"INSERT INTO users VALUES ({n}, 'u{n}', {n * 7});\n"),
    "150 asserts": _rows(150, lambda n: f"    assert square({n}) == {n * n}\n"),
    "60 JSON objects with ids": json.dumps([{**_OBJECT, "id": n} for n in range(60)], indent=2),
    "300 JSON objects with ids": json.dumps([{**_OBJECT, "id": n} for n in range(300)]),
    "100 cases of a switch": _rows(100, lambda n: f"        case {n}: return {n * 3};\n"),
    "300 rows of a table": _rows(300, lambda n: f"| {n:4} | item {n} | {n * 13 % 100} | yes |\n"),
    "a long dump of zeros": _rows(256, lambda n: f"{16 * n:08x}  {'00 ' * 16} |{'.' * 16}|\n"),
    "a rule of a table": "|" + "-" * 20 + "|" + "-" * 20 + "|" + "-" * 20 + "|",
    "80 dashes": "-" * 80,
    "ten spaces": "x" + " " * 10 + "y",
    "deep indentation": _rows(40, lambda n: "    " * n + "{\n")
    + _rows(40, lambda n: "    " * (40 - n) + "}\n"),
    "base64 VVVV": "V" * 700,
    "zeros in hex": "00" * 700,
    "random hex": _HEX,
    "10 equal tool arguments": json.dumps({"edits": [{"path": "a.py", "old": "x"}] * 10}),
    "a lock file": _rows(
        120,
        lambda n: f'[[package]]\nname = "lib-{n}"\nversion = "1.{n}.0"\n'
        f'checksum = "{_HEX[n * 50 : n * 50 + 64]}"\n\n',
    ),
    "minified code": ";".join(f"var a{n}=function(e,t){{return e+t+{n}}}" for n in range(200)),
    "test vectors": _rows(
        100,
        lambda n: f"COUNT = {n}\nKEY = {_HEX[n * 64 : n * 64 + 64]}\nIV = {'00' * 16}\n"
        f"PT = {'00' * 16}\nCT = {_HEX[n * 32 : n * 32 + 32]}\n\n",
    ),
    "a poem with a refrain": "".join(prose(200, n) + "\n" + _REFRAIN for n in range(12)),
    "99 bottles": _rows(
        99,
        lambda n: f"{99 - n} bottles of beer on the wall, {99 - n} bottles of beer.\n"
        f"Take one down and pass it around, {98 - n} bottles of beer on the wall.\n\n",
    ),
    "an enumeration by letters": _rows(
        26, lambda n: f"({chr(97 + n)}) The part named {chr(65 + n)} is found to be right.\n"
    ),
    "steps of a plan": _rows(
        40, lambda n: f"Step {n + 1}: read file_{n + 1}.py, then run the tests of module {n + 1}.\n"
    ),
    "a chess board": ("#." * 32 + "\n" + ".#" * 32 + "\n") * 16,
    "a progress bar": "\n".join("[" + "#" * n + " " * (50 - n) + f"] {2 * n}%" for n in range(51)),
    "blank lines": "a" + "\n" * 300 + "b",
    "laughter": "ha" * 200,
    "an empty page of forms": ("Name: ______________________  Date: ____________\n" * 30),
    "Unicode box": "─" * 60 + "\n" + ("│" + " " * 58 + "│\n") * 20 + "─" * 60,
    "a table in Chinese": _rows(60, lambda n: f"| {n} | 项目 | 正常 |\n"),
}  # fmt: skip


BLOCKS: dict[str, str] = {
    "one character": "a",
    "a question": "?!",
    "a dash": "-",
    "blanks": " ",
    "new lines": "\n",
    "zeros": "0, ",
    "two words": " again and",
    "wait": "Wait, ",
    "a character in three bytes": "好",
    "a smile": "😀",
    "Chinese": "让我再想一想这个问题。",
    "a sentence": "Let me check the file again. ",
    "a line of code": "    result = compute(result, index)\n",
    "a row": "| a | b | c |\n",
    "40 lines": "".join(f"line {chr(97 + n % 26)}: {prose(30, n)}\n" for n in range(40)),
    **{f"{size} characters": prose(size, size) for size in (100, 150, 300, 600, 1000, 2000, 4000)},
    "4,000 characters of Chinese": "".join(chr(0x4E00 + n * 7 % 8000) for n in range(4000)),
}
"""Blocks of loops."""


FOUR_TIMES: dict[str, str] = {
    "40 numbered lines": _rows(40, lambda n: f"line {n} of the block\n"),
    "40 lines of prose": _rows(40, lambda n: prose(35, n) + "\n"),
    "40 lines of code": _rows(40, lambda n: f"    result[{n}] = compute(value, {n * 7}, scale)\n"),
    "40 lines of JSON": _rows(40, lambda n: f'  "key_{n}": "value of it {n}", "size": {n * 3},\n'),
}
"""Blocks that are a loop when they have come four times."""


def loop(block: str) -> str:
    """What a model says that says it for ever; more than any bound."""
    return block * (max(40_000, 8 * len(block)) // len(block))


def _changed(size: int, changes: int, copies: int) -> str:
    draw = random.Random(size + changes)
    block = prose(size, 3).split()
    said = []
    for _ in range(copies):
        words = list(block)
        for _ in range(changes):
            words[draw.randrange(len(words))] = draw.choice(WORDS) + draw.choice(["ing", "er", "s"])
        said.append(" ".join(words) + ". ")
    return "".join(said)


def _either(copies: int) -> str:
    draw = random.Random(5)
    two = ("First I should look at the file again and see what it says about this. ",
           "But wait, maybe the other way is right and we need to test it first. ")  # fmt: skip
    return "".join(draw.choice(two) for _ in range(copies))


def _drifts() -> Iterator[tuple[str, str]]:
    yield "a counter", _rows(500, lambda n: f"Attempt {n}: let me try to read the file again. ")
    yield (
        "a time",
        _rows(
            400,
            lambda n: f"It is 13:{n // 60 % 60:02}:{n % 60:02} and the server does not answer. ",
        ),
    )
    yield (
        "a date and a time",
        _rows(
            400,
            lambda n: f"At 2026-11-21T13:{n // 60:02}:{n % 60:02}Z it failed, so I try it again. ",
        ),
    )
    yield (
        "a hex id",
        _rows(
            400, lambda n: f"Let me look at commit {n * 2654435761 % 2**32:08x}, it may say why. "
        ),
    )
    yield (
        "a letter",
        _rows(500, lambda n: f"Now file_{chr(97 + n % 23)}{chr(97 + n % 26)} must be read again. "),
    )
    for size in (150, 300, 400, 1000, 2000):
        for changes in (1, 2):
            name = f"{changes} changed of {size} characters"
            yield name, _changed(size, changes, max(30_000 // size, 16))
    yield "5 % of the words", _changed(600, 5, 60)
    yield "15 % of the words", _changed(600, 15, 60)
    yield (
        "a number, in Chinese",
        _rows(600, lambda n: f"第{n}次\uff1a让我再想一想这个问题\uff0c也许答案不对。"),
    )
    yield "two paragraphs in random order", _either(300)


DRIFTS = dict(_drifts())
"""What drifts, in thoughts."""
