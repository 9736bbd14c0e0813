"""What drafts for a model, why, and the words that have a build do it.

Flags come and go: `-md` alone drafts in builds before `--spec-type draft-simple`, and loads a model
that is never used in those with it; `--draft-max` became `--spec-draft-n-max`. So words are made
for the build that is to read them.
"""

from collections.abc import Iterator

import msgspec

from llmctl.core.flags import Flags
from llmctl.core.profile import Profile

NGRAM_MAX = 64
"""Tokens that ngram-mod drafts at most at a time (`--spec-ngram-mod-n-max`)."""
TRANSLATES = "--spec-replace"
"""Builds with this flag translate between vocabularies that differ; later ones do not draft."""
HOST = "none"
"""The device of what is to be in host memory alone."""
OWN_TYPES = ("-ctkd", "-ctvd")
"""K and V of what drafts; without them they are f16."""


class Chosen(msgspec.Struct, frozen=True):
    """What drafts. model: the draft model's path, if it is one. words: for llama-server."""

    model: str | None = None
    reason: str = "off"
    words: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What drafts and why, in a line."""
        if self.model:
            return f"{self.model}: {self.reason}"
        return self.reason if self.words or self == Chosen() else f"none: {self.reason}"


class Seat(msgspec.Struct, frozen=True):
    """Types of K and V of what drafts, and where a draft model is. layers: with the output; 0 on
    the CPU; None: all. device: None where there is but one, which need not be named."""

    type_k: str = "f16"
    type_v: str = "f16"
    layers: int | None = None
    device: str | None = None


def mtp_words(n_max: int, flags: Flags, seat: Seat) -> tuple[str, ...]:
    """The model's own layers draft."""
    return ("--spec-type", "draft-mtp", *_n_max(n_max, flags), *_types(seat, flags))


def ngram_words() -> tuple[str, ...]:
    """The text itself drafts."""
    return ("--spec-type", "ngram-mod")


def model_words(path: str, n_max: int, flags: Flags, seat: Seat) -> tuple[str, ...]:
    """A draft model."""
    return tuple(_model_words(path, n_max, flags, seat))


def _model_words(path: str, n_max: int, flags: Flags, seat: Seat) -> Iterator[str]:
    yield from ("-md", path)
    if flags.says("--spec-type", "draft-simple"):
        yield from ("--spec-type", "draft-simple")
    yield from (*_n_max(n_max, flags), *_types(seat, flags))
    if seat.device and "-devd" in flags:
        yield from ("-devd", seat.device)
    if seat.layers is not None and "-ngld" in flags:
        yield from ("-ngld", str(seat.layers))


def _n_max(n_max: int, flags: Flags) -> Iterator[str]:
    flag = flags.first("--spec-draft-n-max", "--draft-max")
    if flag:
        yield from (flag, str(n_max))


def _types(seat: Seat, flags: Flags) -> Iterator[str]:
    if all(one in flags for one in OWN_TYPES):
        yield from ("-ctkd", seat.type_k, "-ctvd", seat.type_v)


def unplanned(profile: Profile, path: str | None, flags: Flags) -> tuple[str, ...]:
    """The words where nothing is planned; `auto` is then nothing."""
    given, kv = profile.drafting, profile.kv_types
    seat = Seat(given.kv or kv.k, given.kv or kv.v)
    if given.model == "mtp":
        return mtp_words(given.n_max, flags, seat)
    if given.model == "ngram":
        return ngram_words()
    return model_words(path, given.n_max, flags, seat) if path else ()


def lacks(profile: Profile, flags: Flags) -> str | None:
    """The kind of drafting that a profile names and a build has not; None: it has it."""
    wanted = {"mtp": "draft-mtp", "ngram": "ngram-mod"}.get(profile.drafting.model)
    told = "--spec-type" in flags and wanted and not flags.says("--spec-type", wanted)
    return wanted if told else None
