"""The words of a unit that say where a model goes: planned once, remembered until an input changes.

An input is anything a plan is made from: the profile, the files, the build, the cards in the box
and what config.yaml says of them; not what is free at the moment. So a unit does not get stale
because a model runs, `status` neither plans nor asks devices, and whoever needs a plan that is not
remembered imports the planner only then.
"""

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from llmctl.core.drafts import Chosen
from llmctl.core.gguf_name import shards
from llmctl.core.profile import Profile
from llmctl.engine.beside import residents
from llmctl.errors import DraftError, HostError, LlmctlError

if TYPE_CHECKING:
    from llmctl.engine.box import Box

FORMAT = 2
"""Raised when the planner decides otherwise than before: then all plans are made anew."""
OPEN_KEYS = ("ctx", "gpu_layers", "n_cpu_moe", "tensor_split")
_ELSEWHERE: dict[str, Any] = {"ttl": None, "pin": False}
"""Keys that say how long a model stays, and nothing of where it goes."""
_CARDS = ("/sys/class/drm", "/proc/driver/nvidia/gpus")


class Remembered(msgspec.Struct, frozen=True):
    """A plan's words; none where it could not be made, and why. inputs: what it was made from.

    draft: what drafts; None: that was not planned. fault: why what the profile names cannot.
    """

    inputs: str
    words: tuple[str, ...] = ()
    why_not: str | None = None
    draft: Chosen | None = None
    fault: str | None = None


def is_open(profile: Profile) -> bool:
    """Does the profile leave anything to a plan?"""
    drafts = profile.drafting.model not in ("off", "ngram")
    return drafts or any(getattr(profile, key) == "auto" for key in OPEN_KEYS)


def remembered(box: "Box", profile: Profile, *, ask: bool) -> Remembered:
    """The plan of a profile. ask: make one if none is remembered; it takes a second or so."""
    if not is_open(profile):
        return Remembered("")
    inputs = _inputs(box, profile)
    path = f"{box.store.state_dir}/plans/{profile.name}.json"
    known = _known(box, path)
    if known is not None and known.inputs == inputs:
        return known
    if not ask:
        return Remembered(inputs, why_not="it has not been planned yet: llmctl apply")
    try:
        made = _made(box, profile, inputs)
    except HostError as error:  # the next time it may go better
        return Remembered(inputs, why_not=error.message)
    with contextlib.suppress(HostError):
        box.store.write_private(path, msgspec.json.encode(made).decode())
    return made


def _made(box: "Box", profile: Profile, inputs: str) -> Remembered:
    from llmctl.engine.planning import words_for  # nearly all commands need no planner

    try:
        words, draft = words_for(box, profile)
        return Remembered(inputs, words, draft=draft)
    except HostError:
        raise
    except DraftError as error:
        return Remembered(inputs, fault=error.message)
    except LlmctlError as error:
        return Remembered(inputs, why_not=error.message)


def _known(box: "Box", path: str) -> Remembered | None:
    try:
        return msgspec.json.decode(box.host.read(path), type=Remembered)
    except (FileNotFoundError, HostError, msgspec.MsgspecError):
        return None


def _inputs(box: "Box", profile: Profile) -> str:
    """Everything a plan depends on that can be had for a few looks at the disk: what it is of, and
    the residents that it leaves room for."""
    facts = (
        FORMAT,
        *_facts(box, profile),
        *(_known_of(box, one) for one in residents(box, profile)),
    )
    return msgspec.json.encode(facts, order="sorted").decode()


def _known_of(box: "Box", profile: Profile) -> object:
    try:
        return _facts(box, profile)
    except LlmctlError:  # it cannot be planned, and so nobody leaves room for it
        return profile.name


def _facts(box: "Box", profile: Profile) -> tuple[object, ...]:
    files, binary = box.store.files(profile), box.store.binary(profile)
    paths = (*shards(files.model), files.mmproj, *shards(files.draft or ""), files.binary)
    stamps = [
        (path, entry.size_bytes, entry.mtime_ns)
        for path in paths
        if path and (entry := box.host.stat(path))
    ]
    cards = [_names(box, place) for place in _CARDS]
    config = box.store.config
    placed = replace(profile, **_ELSEWHERE)
    return (placed, stamps, binary.env, config.devices, cards, _found(box, profile))


def _found(box: "Box", profile: Profile) -> object:
    """The models that `draft: auto` chooses from. One that is larger than the model does not
    count, so a download of one makes no plan stale."""
    if profile.drafting.model != "auto":
        return None
    from llmctl.store.smaller import smaller_models  # few profiles ask for it

    directory = box.store.expand(box.store.config.models_dir)
    return smaller_models(box.host, directory, box.store.model_path(profile.model))


def _names(box: "Box", place: str) -> list[str]:
    try:
        names = [entry.name for entry in box.host.list(place)]
    except HostError:
        return []
    return [name for name in names if not name.startswith("card")]  # connectors come and go
