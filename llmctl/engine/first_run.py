"""A box that nobody has configured: config.yaml and profiles for what is there. Nothing that exists
is replaced, so doing it again adds what is new, and mends nothing that a person wrote."""

import msgspec

from llmctl.core.config import Binary
from llmctl.core.first_names import profile_name
from llmctl.core.gguf_facts import SERVED
from llmctl.core.profile import Profile
from llmctl.core.words import profile_of
from llmctl.core.yaml_text import flow, text
from llmctl.engine.box import Box
from llmctl.engine.devices import default_binary
from llmctl.engine.finding import MODEL_DIRS, USUAL, Models, builds, models
from llmctl.engine.new_profile import Asked, Draft, drafted, write
from llmctl.engine.scanning import Row, scan
from llmctl.errors import LlmctlError, ProfileError, UsageError
from llmctl.store.binaries import find


class Settled(msgspec.Struct, frozen=True):
    """Where things are. written: config.yaml was not there. others: builds and directories that
    were found as well, and are not used."""

    path: str
    written: bool
    binary: str
    models_dir: str
    others: tuple[str, ...] = ()


class Left(msgspec.Struct, frozen=True):
    """A model's file without a profile, and why."""

    file: str
    why: str


class Found(msgspec.Struct, frozen=True):
    """Profiles that were written, files that have one already, and files that got none."""

    drafts: tuple[Draft, ...]
    known: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()


def settle(box: Box, *, binary: str | None, models_dir: str | None) -> Settled:
    """Write config.yaml, where there is none. binary, models_dir: what a person says of it.

    ProfileError: there is no llama-server, or no model, or what stands in config.yaml is wrong.
    UsageError: a person says what a file says already.
    """
    path = f"{box.store.config_dir}/config.yaml"
    if box.host.stat(path) is not None:
        if binary or models_dir:
            raise UsageError(f"{path} is there already.", hint="Say it there.")
        config = box.store.config
        name = default_binary(config)
        box.store.binary_path(Profile(name="", model="", binary=name))
        return Settled(path, written=False, binary=name, models_dir=config.models_dir)
    build, *other_builds = _builds(box, binary)
    where, *elsewhere = _models(box, models_dir)
    box.host.write(path, _config_text(build, where.directory).encode())
    others = (*other_builds, *(one.directory for one in elsewhere))
    return Settled(path, written=True, binary=build, models_dir=where.directory, others=others)


def _builds(box: Box, given: str | None) -> tuple[str, ...]:
    """What can be started: a file that names anything else would only be in the way."""
    if given and box.host.which(given) is None:
        raise UsageError(
            f"{given} is not an executable file.",
            hint="Say where llama-server is: llmctl init --binary PATH",
        )
    if found := (given,) if given else builds(box.host):
        find(box.host, "upstream", Binary(found[0]), file="llmctl init")
        return found
    raise ProfileError(
        "There is no llama-server on the PATH, nor where builds of llama.cpp usually are.",
        hint="Install or build one, or say where it is: llmctl init --binary PATH",
    )


def _models(box: Box, given: str | None) -> tuple[Models, ...]:
    where = (given,) if given else MODEL_DIRS
    if found := models(box.host, where):
        return found
    raise ProfileError(
        f"There is no GGUF file below {', '.join(where)}.",
        hint=f"Put one into {where[0]}, or say where they are: llmctl init --models DIR",
    )


def _config_text(build: str, models_dir: str) -> str:
    lines = ["# This box. Every key: docs/reference/config.md", f"models_dir: {text(models_dir)}"]
    if build != USUAL:
        lines.append(f"binaries: {flow({'upstream': build})}")
    return "\n".join([*lines, ""])


def profiles_for_all(box: Box) -> Found:
    """A profile for each model below models_dir that fits on this box and has none."""
    rows, taken = scan(box).rows, _taken(box)
    drafts: list[Draft] = []
    left: list[Left] = []
    for row in rows:
        if row.facts is None or row.facts.kind in SERVED:
            if row.profiles:
                continue
            try:
                drafts.append(_written(box, row, taken))
            except LlmctlError as error:
                left.append(Left(row.file.name, error.message.removeprefix(f"{row.file.path} ")))
    known = tuple(row.file.name for row in rows if row.profiles)
    return Found(tuple(drafts), known, tuple(left))


def _written(box: Box, row: Row, taken: set[str]) -> Draft:
    """taken: names that it cannot have; its own is one of them after that."""
    if row.error:
        raise ProfileError(row.error)
    name = profile_name(row.file.path, taken)
    draft = drafted(box, Asked(name=name, file=row.file.path))
    write(box, draft)
    taken.add(name)
    return draft


def _taken(box: Box) -> set[str]:
    """Names of profiles, their aliases, and of units of that name, whoever wrote them."""
    taken = set(box.store.names)
    for loaded in box.store.profiles.values():
        taken.update(loaded.profile.aliases if loaded.profile else ())
    taken.update(name for unit in box.store.unit_texts() if (name := profile_of(unit)))
    return taken
