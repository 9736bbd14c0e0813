"""Of a server's command line, what its speed depends on: what makes two benchmarks comparable."""

from collections.abc import Sequence

from llmctl.core.said import said

_MORE = {
    "threads": ("-t", "--threads"),
    "threads_batch": ("-tb", "--threads-batch"),
    "threads_draft": ("-td", "--threads-draft", "--spec-draft-threads"),
    "cpu_mask": ("-C", "--cpu-mask"),
    "cpu_range": ("-Cr", "--cpu-range"),
    "priority": ("--prio",),
    "polling": ("--poll",),
    "numa": ("--numa",),
    "draft_p_min": ("--spec-draft-p-min", "--draft-p-min"),
    "draft_n_min": ("--spec-draft-n-min", "--draft-min"),
    "cache_ram": ("-cram", "--cache-ram"),
}
_NAME_OF = {flag: name for name, flags in _MORE.items() for flag in flags}
_MODEL = ("-m", "--model")
_DRAFT = ("draft", "spec_type", "n_draft", "threads_draft")
"""Names that say what drafts; with them all that begin so."""


def flags_of(words: Sequence[str]) -> dict[str, str]:
    """By name. Paths of models are in it, and nothing that may be a secret."""
    found = said(words)
    for at, word in enumerate(words):
        flag, equals, value = word.partition("=")
        value = value if equals else words[at + 1] if at + 1 < len(words) else ""
        if flag in _NAME_OF:
            found[_NAME_OF[flag]] = value
        elif flag in _MODEL:
            found["model"] = value
    return found


def without_draft(flags: dict[str, str]) -> dict[str, str]:
    """What stays when nothing drafts."""
    return {key: one for key, one in flags.items() if not key.startswith(_DRAFT)}


def is_drafting(flags: dict[str, str]) -> bool:
    """Does something draft? Later builds need to be told what; a model alone is never used."""
    return bool(flags.get("spec_type") or flags.get("draft"))
