"""What lies in a directory of models, and what of it fits on this box. Devices are asked once."""

import posixpath
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from llmctl.core.gguf_facts import SERVED, Facts, facts_of, projectors
from llmctl.core.memory.model import model_of
from llmctl.core.memory.planner import Planner
from llmctl.core.memory.request import wanted_of
from llmctl.core.profile import Profile
from llmctl.engine.devices import default_binary
from llmctl.engine.planning import Place, place_of
from llmctl.errors import GgufError, HostError, LlmctlError, ProfileError, UsageError, sentence
from llmctl.store.heads import head_of
from llmctl.store.models import ModelFile, find_models

if TYPE_CHECKING:
    from llmctl.core.gguf import Header
    from llmctl.core.memory.wanted import Plan
    from llmctl.engine.box import Box

NAME = "scan"
"""Of the profile whose defaults files are planned with."""


class Row(msgspec.Struct, frozen=True):
    """One file. plan: None where there is nothing to plan, or nothing to plan with.

    units: layers of the model, the output counted as one. mmproj: the projector that the plan
    includes, the only one beside the model that is made for it. error: what is wrong with the file.
    """

    file: ModelFile
    facts: Facts | None = None
    plan: "Plan | None" = None
    units: int = 0
    mmproj: str | None = None
    profiles: tuple[str, ...] = ()
    error: str | None = None


class Scan(msgspec.Struct, frozen=True):
    """A directory. binary: by whose devices was planned; None: without any, and a warning why."""

    directory: str
    binary: str | None
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()


def scan(box: "Box", directory: str | None = None) -> Scan:
    """Every GGUF file below a directory (an absolute path), by default below models_dir.

    UsageError: there is no such directory. ProfileError: it is models_dir that is not there.
    """
    where = _directory(box, directory)
    tree = find_models(box.host, where)
    heads, errors = _heads(box, tree.files)
    binary = default_binary(box.store.config)
    place, why_not = _place(box, binary) if heads else (None, ())
    users = _Users(box)
    facts = {path: facts_of(header, path) for path, header in heads.items()}
    folders: dict[str, dict[str, Facts]] = {}
    for path, one in facts.items():
        folders.setdefault(_folder(path), {})[path] = one
    errors |= {path: _cut(one) for path, one in facts.items() if one.missing_bytes}
    rows = []
    for file in tree.files:
        row = Row(file, facts.get(file.path), profiles=users(file), error=errors.get(file.path))
        rows.append(_planned(row, place, heads, folders) if place else row)
    warnings = (*tree.warnings, *why_not, *(place.warnings if place else ()))
    return Scan(where, binary if place else None, tuple(rows), warnings)


def _directory(box: "Box", given: str | None) -> str:
    store = box.store
    where = store.expand(store.config.models_dir)
    if given is not None:  # as paths in profiles: no `$` is expanded
        where = store.model_path("~/" if given == "~" else given)
    entry = box.host.stat(where)
    if entry is not None and entry.is_dir:
        return posixpath.normpath(where)
    if entry is not None:
        raise UsageError(f"{where} is a file.", hint=f"What it needs: llmctl plan {where}")
    if given is not None:
        raise UsageError(f"There is no directory {where}.")
    raise ProfileError(
        f"There is no directory {where}, where models are looked for.",
        hint=f"Say where they are: llmctl scan DIR, or models_dir: DIR in"
        f" {store.config_dir}/config.yaml. Or make it: mkdir -p {where}",
    )


# Heads


def _heads(box: "Box", files: tuple[ModelFile, ...]) -> "tuple[dict[str, Header], dict[str, str]]":
    heads: dict[str, Header] = {}
    errors: dict[str, str] = {}
    for file in files:
        try:
            heads[file.path] = _whole_head(box, file)
        except (LlmctlError, FileNotFoundError) as error:
            said = error.message if isinstance(error, LlmctlError) else "it is gone"
            errors[file.path] = said.removeprefix(f"{file.path}: ").rstrip(".")
    return heads, errors


def _whole_head(box: "Box", file: ModelFile) -> "Header":
    """The head of a file that is all there; GgufError for any other."""
    if file.missing:
        names = ", ".join(one.rpartition("/")[2] for one in file.missing[:3])
        more = f" and {len(file.missing) - 3} more" if len(file.missing) > 3 else ""
        raise GgufError(
            f"{file.path}: {len(file.missing)} of {file.parts} parts are missing: {names}{more}",
            hint="Download them: no part can be left out.",
        )
    if not file.size_bytes:  # nor opened: a pipe would never end
        raise GgufError(f"{file.path}: it is empty")
    return head_of(box.host, file.path, cache_dir=box.store.cache_dir)


def _cut(facts: Facts) -> str:
    return f"it is cut short: {facts.missing_bytes} bytes are missing at its end"


# Plans


def _place(box: "Box", binary: str) -> tuple[Place | None, tuple[str, ...]]:
    try:
        return known_place(box, Profile(name=NAME, model=NAME, binary=binary)), ()
    except (ProfileError, HostError) as error:
        hint = f" {error.hint}" if error.hint else ""
        return None, (f"What fits is not known: {sentence(error.message)}{hint}",)


def known_place(box: "Box", profile: Profile) -> Place:
    """The devices of a profile's binary. HostError: nobody could tell them."""
    place = place_of(box, profile)
    if not place.rooms and place.warnings:
        raise HostError(f"The devices are not known: {place.warnings[0]}.")
    return place


def _planned(
    row: Row,
    place: Place,
    heads: "Mapping[str, Header]",
    folders: Mapping[str, Mapping[str, Facts]],
) -> Row:
    if row.facts is None or row.facts.kind not in SERVED or row.error:
        return row
    matching = projectors(row.facts, folders[_folder(row.file.path)])
    mmproj = matching[0] if len(matching) == 1 else None
    try:
        planner = planner_for(heads[row.file.path], place, heads[mmproj] if mmproj else None)
        plan = planner.plan(wanted_of(Profile(name=NAME, model=NAME)))
    except LlmctlError as error:
        return msgspec.structs.replace(row, error=error.message.rstrip("."))
    return msgspec.structs.replace(row, plan=plan, units=planner.units, mmproj=mmproj)


def planner_for(header: "Header", place: Place, mmproj: "Header | None") -> Planner:
    """A planner of a file's model on the devices of a place. GgufError: no model can be made of
    what it says."""
    model = model_of(header)
    return Planner(model, place.rooms, place.ram, build=place.build, mmproj=mmproj)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


# Profiles


class _Users:
    """Which profiles use a file: by its path, or by name, size and time where links lead to it."""

    def __init__(self, box: "Box") -> None:
        self._by_path: dict[str, set[str]] = {}
        self._by_stamp: dict[tuple[str, int, int], set[str]] = {}
        for name, loaded in box.store.profiles.items():
            for path in _paths(box, loaded.profile) if loaded.profile else ():
                self._by_path.setdefault(path, set()).add(name)
                if entry := box.host.stat(path):
                    stamp = (path.rpartition("/")[2], entry.size_bytes, entry.mtime_ns)
                    self._by_stamp.setdefault(stamp, set()).add(name)

    def __call__(self, file: ModelFile) -> tuple[str, ...]:
        """Names of profiles. Of a split file, only its path is looked at."""
        stamp = (file.path.rpartition("/")[2], file.size_bytes, file.mtime_ns)
        found = self._by_path.get(file.path, set()) | self._by_stamp.get(stamp, set())
        return tuple(sorted(found))


def _paths(box: "Box", profile: Profile) -> Iterator[str]:
    store, draft = box.store, profile.draft
    yield posixpath.normpath(store.model_path(profile.model))
    name = draft if isinstance(draft, str) else draft.model
    for other in (profile.mmproj, name if name.endswith(".gguf") else None):
        if other:
            yield posixpath.normpath(store.beside(other, profile))
