"""The file that a new profile serves: found by what a person typed, and looked into."""

import posixpath
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from llmctl.core.gguf import Header
from llmctl.core.gguf_facts import SERVED, Facts, Kind, facts_of, projectors
from llmctl.core.gguf_name import first_part, part
from llmctl.errors import GgufError, HostError, LlmctlError, ProfileError
from llmctl.store.heads import head_of
from llmctl.store.models import find_models

if TYPE_CHECKING:
    from llmctl.engine.box import Box

MOST_BESIDE = 256
"""Files of one directory that are looked into for a projector."""


class Model(msgspec.Struct, frozen=True):
    """A file to be served. fitting: the names of the projectors beside it that fit; there: of all
    projectors there, with what they are. mmproj: the head of the only one that fits.
    """

    path: str
    header: Header
    facts: Facts
    fitting: tuple[str, ...] = ()
    there: Mapping[str, Facts] = {}
    mmproj: Header | None = None


def model_file(box: "Box", given: str, *, cwd: str | None) -> str:
    """The absolute path of a file, given so, or relative to cwd or to models_dir."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise ProfileError(
            f"The name {given!a} is no UTF-8 text, which a profile is.", hint="Rename the file."
        ) from None
    candidates = [posixpath.normpath(one) for one in _candidates(box, given, cwd)]
    found = ((one, entry) for one in candidates if (entry := box.host.stat(one)))
    path, entry = next(found, (None, None))
    if path is None or entry is None:
        raise _missing(box, given, candidates)
    if entry.is_dir:
        raise GgufError(f"{path} is a directory.", hint=f"What it holds: llmctl scan {path}")
    return path


def _candidates(box: "Box", given: str, cwd: str | None) -> Iterator[str]:
    if cwd and not given.startswith(("/", "~/")):
        yield posixpath.join(cwd, given)
    yield box.store.model_path(given)


def _missing(box: "Box", given: str, candidates: list[str]) -> ProfileError:
    import difflib  # only complaints need it

    models = find_models(box.host, models_dir(box)).files
    names = {name: one.name for one in models for name in (one.name, one.name.rpartition("/")[2])}
    lower = {name.lower(): whole for name, whole in names.items()}
    near = difflib.get_close_matches(given.rpartition("/")[2].lower(), lower, n=3, cutoff=0.4)
    here = list(dict.fromkeys(lower[one] for one in near))
    hint = f"Did you mean {' or '.join(here)}?" if here else "llmctl scan lists what there is."
    return ProfileError(f"there is no file {', nor '.join(dict.fromkeys(candidates))}.", hint=hint)


def models_dir(box: "Box") -> str:
    """Where relative paths of models start."""
    return posixpath.normpath(box.store.expand(box.store.config.models_dir))


def written_as(box: "Box", path: str) -> str:
    """A file as a profile names it: relative to models_dir if it is below it."""
    below = posixpath.relpath(path, models_dir(box))
    # A directory that is really called `~` would be taken for home.
    return path if below.startswith(("../", "~")) else below


def look_into(box: "Box", path: str, *, name: str, force: bool) -> Model:
    """What a file is. GgufError: nothing that a profile could serve. name: of the profile. force:
    a file that was cut short will do."""
    numbers = part(path)
    if numbers and numbers[0] > 1:
        raise GgufError(
            f"{path} is part {numbers[0]} of {numbers[1]} of a model.",
            hint=f"Name the first part: llmctl new {name} {first_part(path)}",
        )
    if not getattr(box.host.stat(path), "size_bytes", 0):  # a pipe would never end
        raise GgufError(f"{path} is empty.")
    header = head_of(box.host, path, cache_dir=box.store.cache_dir)
    facts = facts_of(header, path)
    _check(path, header, facts, force=force)
    beside = _beside(box, path)
    fitting = projectors(facts, {one: about for one, (_, about) in beside.items()})
    there = {one: about for one, (_, about) in beside.items() if about.kind is Kind.PROJECTOR}
    mmproj = beside[fitting[0]][0] if len(fitting) == 1 else None
    return Model(path, header, facts, fitting, there, mmproj)


def _check(path: str, header: Header, facts: Facts, *, force: bool) -> None:
    if header.metadata.get("split.no"):
        raise GgufError(
            f"{path} is a further part of a split model, under a name of its own.",
            hint="Name the first part; the others lie beside it.",
        )
    if facts.kind not in SERVED:
        raise _no_model(path, facts)
    if facts.missing_bytes and not force:
        raise GgufError(
            f"{path} is cut short: {facts.missing_bytes} bytes are missing at its end.",
            hint="Download it to its end; --force writes the profile all the same.",
        )


_INSTEAD = {
    Kind.PROJECTOR: ("a projector", "mmproj: {}"),
    Kind.DRAFT: ("a drafter for another model", "draft: {}"),
    Kind.ADAPTER: ("an adapter", 'args: ["--lora", "{}"]'),
    Kind.CONTROL_VECTOR: ("a control vector", 'args: ["--control-vector", "{}"]'),
    Kind.VOCABULARY: ("a vocabulary without a model", None),
    Kind.IMATRIX: ("an imatrix, which is for quantizing", None),
    Kind.OTHER: ("no model that llama-server serves", None),
}


def _no_model(path: str, facts: Facts) -> GgufError:
    what, key = _INSTEAD[facts.kind]
    of = f" (architecture {facts.architecture})" if facts.architecture else ""
    hint = f"It goes with a model; in that model's profile: {key.format(path)}" if key else None
    return GgufError(
        f"{path} is {what}{of}.", hint=hint or "llmctl scan says which files are models."
    )


def _beside(box: "Box", path: str) -> dict[str, tuple[Header, Facts]]:
    """Files of the same directory by name; what cannot be read is none."""
    folder = posixpath.dirname(path)
    try:
        entries = box.host.list(folder)
    except HostError:  # one may read a file of a directory without being allowed to list it
        return {}
    names = [one.name for one in entries if not one.is_dir and one.size_bytes]
    names = [one for one in names if one.endswith(".gguf") and first_part(one) == one]
    found = {}
    for name in names[:MOST_BESIDE]:
        try:
            header = head_of(box.host, f"{folder}/{name}", cache_dir=box.store.cache_dir)
        except (LlmctlError, FileNotFoundError):
            continue
        found[name] = header, facts_of(header, name)
    return found
