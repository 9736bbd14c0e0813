"""The vocabulary of the scripted models, what follows what in it, and so what they say."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field

from gguf import TokenType

CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|s_{script}|>" for script in ("plain", "think", "tool", "loop", "long", "empty", "utf8")),
)
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
WORDS = ("the", " the", "user", "assistant", "system", "weather", " weather", " think", " loop")

SCRIPTS: dict[str, tuple[str, ...]] = {
    "plain": (
        *("Hello", "!", " This", " is", " a", " tiny", " model"),
        *(" served", " by", " a real", " llama", "-server", "."),
    ),
    "think": ("\nLet", " me", " think", ";", " one", " plus", " three", " makes", " four", ".\n"),
    "answer": ("\n\nThe", " answer", " is 4."),
    "tool": (
        *('\n{"name":', ' "get_weather",', ' "arguments":'),
        *(' {"city":', ' "Paris"', "}}\n"),
    ),
    "loop": (" again", " and"),
    "long": tuple(f" w{i:03d}" for i in range(300)),
    "tloop": ("Wait", ", no", ". Hmm", ". "),
    "utf8": ("Zürich", " — ", "日本", "語", " 🙂", "\u00a0ok"),
}


@functools.cache
def byte_letters() -> dict[int, str]:
    """The letter that GPT-2's byte-level encoding writes for each byte."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = itertools.count(256)
    return {byte: chr(byte if byte in plain else next(spare)) for byte in range(256)}


def encode(text: str) -> str:
    return "".join(byte_letters()[byte] for byte in text.encode())


@dataclass(slots=True)
class Vocabulary:
    """Bytes, some words with their merges, the scripts' words, tags, control tokens."""

    tokens: list[str] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    scripts: dict[str, list[int]] = field(default_factory=dict)

    def add(self, token: str, kind: TokenType) -> int:
        if token not in self.ids:
            self.ids[token] = len(self.tokens)
            self.tokens.append(token)
            self.types.append(int(kind))
        return self.ids[token]

    def add_word(self, word: str) -> None:
        """A word the tokenizer finds: its prefixes are tokens too, merged letter by letter."""
        letters = encode(word)
        for end in range(2, len(letters) + 1):
            if letters[:end] not in self.ids:
                self.merges.append(f"{letters[: end - 1]} {letters[end - 1]}")
                self.add(letters[:end], TokenType.NORMAL)

    def add_scripts(self) -> None:
        """Whole-word tokens without merges: only the model says them, no prompt contains them.

        Each may occur once, since the next token depends on the last one alone; a repeated word
        gets zero-width twins.
        """
        used: dict[str, int] = {}
        for name, words in SCRIPTS.items():
            self.scripts[name] = []
            for word in words:
                twin = encode(word + "\u200b" * used.get(word, 0))
                used[word] = used.get(word, 0) + 1
                self.scripts[name].append(self.add(twin, TokenType.NORMAL))

    def pad(self) -> None:
        """Quantized tensors need rows of whole blocks."""
        for number in range(-len(self.tokens) % 32):
            self.add(f"<|pad{number}|>", TokenType.UNUSED)


@functools.cache
def vocabulary() -> Vocabulary:
    made = Vocabulary()
    for letter in byte_letters().values():
        made.add(letter, TokenType.NORMAL)
    for word in WORDS:
        made.add_word(word)
    made.add_scripts()
    for tag in TAGS:
        made.add(tag, TokenType.USER_DEFINED)
    for control in CONTROL:
        made.add(control, TokenType.CONTROL)
    made.pad()
    return made


@functools.cache
def next_tokens() -> dict[int, int]:
    """Which token follows which."""
    words = vocabulary()
    ids, scripts, end = words.ids, words.scripts, words.ids["<|im_end|>"]
    walks = [
        [ids["<|s_plain|>"], *scripts["plain"], end],
        [
            *(ids["<|s_think|>"], ids["<think>"], *scripts["think"], ids["</think>"]),
            *(*scripts["answer"], end),
        ],
        [
            *(ids["<|s_tool|>"], ids["<tool_call>"], *scripts["tool"]),
            *(ids["</tool_call>"], end),
        ],
        [ids["<|s_loop|>"], *scripts["loop"], scripts["loop"][0]],
        [ids["<|s_long|>"], *scripts["long"], end],
        # The template itself opens <think>, and ends in a tab that nothing else ends in.
        [ids[encode("\t")], *scripts["tloop"], scripts["tloop"][0]],
        [ids["<|s_empty|>"], end],
        [ids["<|s_utf8|>"], *scripts["utf8"], end],
        [end, ids["<|endoftext|>"]],
        # A raw completion whose prompt ends in a newline.
        [ids[encode("\n")], scripts["plain"][0]],
    ]
    following: dict[int, int] = {}
    for token, after in itertools.chain.from_iterable(map(itertools.pairwise, walks)):
        if following.setdefault(token, after) != after:
            raise ValueError(f"two scripts go on differently after {words.tokens[token]!r}")
    return following
