"""The memory plan of a profile or a bare file on the devices of a box, or on declared ones.

Devices are planned by their whole memory less a reserve, not by what is free at this moment: a
plan must not change because a model runs that will have made way. What others hold for good
belongs into `devices:` of config.yaml, as `free` or `reserve`.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from llmctl.core.cards import backend_of
from llmctl.core.config import Config
from llmctl.core.devices import RAM, Gpu, Ram, reserve, used_by_default
from llmctl.core.drafts import Chosen
from llmctl.core.gguf import Header
from llmctl.core.gguf_facts import Kind, facts_of
from llmctl.core.memory.advice import advised, shortage
from llmctl.core.memory.drafting import Drafting
from llmctl.core.memory.kernels import has_kernel
from llmctl.core.memory.learned import Learned
from llmctl.core.memory.model import Model, model_of
from llmctl.core.memory.need import Estimate
from llmctl.core.memory.planner import Planner
from llmctl.core.memory.remedies import REMEDIES
from llmctl.core.memory.request import placing, settled_settings, wanted_of
from llmctl.core.memory.wanted import Plan, Room, Wanted
from llmctl.core.profile import Profile
from llmctl.core.size import parse_size
from llmctl.engine.beside import usual_place
from llmctl.engine.box import Box
from llmctl.engine.devices import Survey, survey
from llmctl.engine.drafting import Drafted, drafted
from llmctl.engine.learning import seen_of
from llmctl.errors import DoesNotFitError, GgufError, HostError, ProfileError, UsageError
from llmctl.store.binaries import argv_with
from llmctl.store.heads import head_of

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION_TIMEOUT_S = 5.0
MAKE_WAY = "must have made way by then"


class Place(msgspec.Struct, frozen=True):
    """Devices in llama.cpp's order, the host's memory, the build's number, what is left to whom."""

    rooms: tuple[Room, ...]
    ram: Room | None = None
    build: int | None = None
    warnings: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class Planned(msgspec.Struct, frozen=True):
    """A plan, what it is of, and what else is to be said of it."""

    name: str
    plan: Plan
    warnings: tuple[str, ...]
    draft: Chosen = Chosen()
    kept: tuple[str, ...] = ()

    @property
    def why_not(self) -> str:
        """What it lacks, and what is left to others."""
        return "; ".join((shortage(self.plan), *self.kept))


_HOST_NAMES = ("host", "cpu")

# Places


def declared_place(devices: Sequence[str]) -> Place:
    """NAME:TOTAL[:FREE] each. FREE is all the model's; else TOTAL less what the runtime takes."""
    rooms = [_declared(one) for one in devices]
    names = [one.name for one in rooms]
    if len(set(names)) < len(names):
        raise UsageError("--device names a device twice.")
    memory = next((one for one in rooms if one.name == RAM), None)
    return Place(tuple(one for one in rooms if one.name != RAM), memory)


def _declared(text: str) -> Room:
    name, *sizes = text.split(":")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name) or len(sizes) not in (1, 2):
        raise UsageError(f"--device {text}: expected NAME:TOTAL[:FREE], such as CUDA0:24GiB.")
    if name.lower() in _HOST_NAMES:
        raise UsageError(f"--device {text}: {name} is no GPU; the host's memory is {RAM}:SIZE.")
    try:
        total, *free = (parse_size(one) for one in sizes)
    except ValueError as error:
        raise UsageError(f"--device {text}: {error}") from None
    if free and free[0] > total:
        raise UsageError(f"--device {text}: more is free than there is.")
    kept = 0 if name == RAM else reserve(backend_of(name), in_context=False, display=False)
    return Room(name, total, free[0] if free else max(0, total - kept))


def place_of(box: Box, profile: Profile, *, now: bool = False, seen: Survey | None = None) -> Place:
    """The devices that a profile's server will see: those it names, or those llama.cpp takes. now:
    with what is free at this moment, for what runs beside all that runs already. seen: what there
    is, where that was asked just now."""
    seen = seen or survey(box, profile=profile)
    gpus, config = gpus_of(box, profile, seen), box.store.config
    if now:
        return Place(_rooms_now(gpus), _memory_now(seen.ram), build_of(box, profile), seen.warnings)
    rooms = tuple(_room(gpu, config) for gpu in gpus)
    warnings = (*seen.warnings, *(held for gpu in gpus if (held := _held(gpu, config))))
    return Place(rooms, _memory(seen.ram, config), build_of(box, profile), warnings)


def gpus_of(box: Box, profile: Profile, seen: Survey) -> tuple[Gpu, ...]:
    """Those of the box's devices that a profile's server will use, in llama.cpp's order."""
    if profile.devices == "auto":
        return used_by_default(seen.gpus)
    known = {gpu.name: gpu for gpu in seen.gpus}
    missing = [name for name in profile.devices if name not in known]
    if missing:
        raise ProfileError(
            f"{box.store.profile_path(profile.name)}: devices: there is no {missing[0]};"
            f" there is {', '.join(known) or 'none'}",
        )
    return tuple(known[name] for name in profile.devices)


def _room(gpu: Gpu, config: Config) -> Room:
    given = config.devices.get(gpu.name)
    kept = reserve(gpu.backend, in_context=False, display=gpu.display)
    free = gpu.total_bytes
    if given is not None and given.reserve is not None:
        kept = gpu.reserve_bytes
    if given is not None and given.free is not None:
        free = gpu.free_bytes
    return Room(gpu.name, gpu.total_bytes, free, kept)


def _rooms_now(gpus: Sequence[Gpu]) -> tuple[Room, ...]:
    return tuple(Room(gpu.name, gpu.total_bytes, gpu.free_bytes, gpu.reserve_bytes) for gpu in gpus)


def _memory_now(ram: Ram | None) -> Room | None:
    return None if ram is None else Room(RAM, ram.total_bytes, ram.free_bytes, ram.reserve_bytes)


def _held(gpu: Gpu, config: Config) -> str | None:
    room = _room(gpu, config)
    if gpu.free_bytes >= room.usable_bytes:
        return None
    return (
        f"{gpu.name}: {gpu.free_bytes >> 20} MiB are free now, the plan counts on"
        f" {room.usable_bytes >> 20}: other programs {MAKE_WAY}"
    )


def _memory(ram: Ram | None, config: Config) -> Room | None:
    if ram is None:
        return None
    given = config.devices.get(RAM)
    free = ram.free_bytes if given is not None and given.free is not None else ram.total_bytes
    return Room(RAM, ram.total_bytes, free, ram.reserve_bytes)


def build_of(box: Box, profile: Profile) -> int | None:
    """`llama-server --version` -> the number of the build; None: it does not say."""
    binary, path = box.store.binary(profile), box.store.binary_path(profile)
    argv = argv_with(binary.env, path, "--version")
    try:
        said = box.host.run(argv, timeout=VERSION_TIMEOUT_S)
    except HostError:
        return None
    text = said.stdout + said.stderr
    match = re.search(r"\bbuild:? b?(\d{3,6})\b", text) or re.search(
        r"^version: (\d{3,6})\b", text, re.MULTILINE
    )
    return int(match[1]) if match else None


# Plans


def plan_file(box: Box, path: str, place: Place, wanted: Wanted) -> Planned:
    """The plan of a model file, without a profile."""
    header = head_of(box.host, path, cache_dir=box.store.cache_dir)
    found = advised(_planner(_model(path, header), place), wanted)
    return Planned(path, found, (*place.warnings, *found.estimate.warnings))


def _model(path: str, header: Header) -> Model:
    """What a head says of its model, or which file says what cannot be."""
    try:
        return model_of(header)
    except GgufError as error:
        raise GgufError(f"{path}: {error.message}", hint=error.hint) from None


class _Prepared(msgspec.Struct, frozen=True):
    """All that a profile's plan is made with. wanted, plain: without a draft."""

    place: Place
    drafts: Drafted
    wanted: Wanted
    plain: Planner
    notes: tuple[str, ...]


def plan_profile(
    box: Box, name: str, place: "Place | None", change: "Callable[[Wanted], Wanted]"
) -> Planned:
    """The plan of a profile; place: elsewhere than on this box; change: what-ifs.

    DraftError: what the profile names as `draft` cannot be.
    """
    made = _prepared(box, box.store.profile(name), place, change)
    drafts, notes = made.drafts, [*made.place.warnings, *made.place.kept, *made.notes]
    found = advised(drafts.planner, drafts.wanted)
    if drafts.chosen.words and not found.fits and made.plain.plan(made.wanted).fits:
        found = replace(found, remedies=("draft: off", *found.remedies)[:REMEDIES])
    drafting = drafts.planner.draft
    if drafting and 0 < drafting.model.n_ctx_train < found.settings.ctx:
        notes.append(f"The draft model was trained for {drafting.model.n_ctx_train} tokens only.")
    warnings = (*notes, *drafts.warnings, *found.estimate.warnings)
    return Planned(name, found, warnings, drafts.chosen, made.place.kept)


def price_profile(box: Box, profile: Profile, words: Sequence[str], place: Place) -> Estimate:
    """What a server of a profile takes that is started with these words (`settled_settings`)."""
    made = _prepared(box, profile, place, lambda wanted: wanted)
    settings = settled_settings(made.drafts.wanted, words)
    return made.drafts.planner.priced(settings).estimate


def _prepared(
    box: Box, profile: Profile, place: "Place | None", change: "Callable[[Wanted], Wanted]"
) -> _Prepared:
    there = usual_place(box, profile) if place is None else place
    cache, store = box.store.cache_dir, box.store
    header = head_of(box.host, store.model_path(profile.model), cache_dir=cache)
    projector = store.beside(profile.mmproj, profile) if profile.mmproj else None
    seeing = head_of(box.host, projector, cache_dir=cache) if projector else None
    if projector and seeing and facts_of(seeing, projector).kind is not Kind.PROJECTOR:
        raise ProfileError(
            f"{store.profile_path(profile.name)}: mmproj: {projector} is no projector",
            hint="Give the file that comes with the model, often called mmproj-F16.gguf.",
        )
    model, notes, wanted = _model(profile.model, header), [], wanted_of(profile)
    if profile.flash_attn == "auto":
        flash = _flash(model, there.rooms)
        notes.append(f"flash_attn is auto: the plan takes it to be {'on' if flash else 'off'}.")
        wanted = replace(wanted, settings=replace(wanted.settings, flash_attn=flash))
    wanted, seen = change(wanted), seen_of(box, profile)
    learned = Learned(model, there.rooms, seen, build=there.build) if seen else None

    def planner_with(draft: Drafting | None) -> Planner:
        return _planner(model, there, seeing, draft, learned)

    drafts = drafted(box, profile, header, wanted, planner_with)
    return _Prepared(there, drafts, wanted, planner_with(None), tuple(notes))


def _flash(model: Model, rooms: Sequence[Room]) -> bool:
    """What llama.cpp makes of `auto`: no flash attention where a device could not do it
    (llama-context.cpp: auto_fa), which of CUDA alone is known."""
    cuda = any(room.name.startswith(("CUDA", "ROCm", "MUSA")) for room in rooms)
    return has_kernel(model) or not cuda


def words_for(box: Box, profile: Profile) -> tuple[tuple[str, ...], Chosen]:
    """The words that place a profile's model on this box, and what drafts. LlmctlError: why there
    are none."""
    path = box.store.model_path(profile.model)
    head_of(box.host, path, cache_dir=box.store.cache_dir)  # else nobody need be asked
    place = usual_place(box, profile)
    if not place.rooms and place.warnings:
        raise HostError(f"The devices are not known: {place.warnings[0]}.")
    found = plan_profile(box, profile.name, place, lambda wanted: wanted)
    if not found.plan.fits:
        raise DoesNotFitError(f"{profile.name} does not fit: {found.why_not}.")
    flags, given = box.store.flags(profile), wanted_of(profile).settings.overrides
    words = tuple(placing(found.plan, given))
    lacking = [one for one in words if re.match("-{1,2}[a-z]", one) and one not in flags]
    if lacking:
        raise ProfileError(f"This llama-server has no {lacking[0]}.")
    return words, found.draft


def _planner(
    model: Model, place: Place, mmproj: Header | None = None, draft: Drafting | None = None,
    learned: Learned | None = None,
) -> Planner:  # fmt: skip
    return Planner(
        model, place.rooms, place.ram, build=place.build, mmproj=mmproj, draft=draft,
        learned=learned,
    )  # fmt: skip
