"""What was observed of a profile's starts, for its plans: beside the prediction, and instead."""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from llmctl import __version__
from llmctl.core.memory.context import shape_of
from llmctl.core.memory.drafting import Drafting
from llmctl.core.memory.estimate import Estimator
from llmctl.core.memory.learned import Seen
from llmctl.core.memory.model import Model, model_of
from llmctl.core.memory.need import Draft, Estimate
from llmctl.core.memory.observed import Row, compared, deviations, span, told
from llmctl.core.memory.place import CPU, place
from llmctl.core.memory.saying import (
    DIVIDED,
    SETTINGS_WORDS,
    differing,
    normal,
    not_modelled,
    seat_said,
    settings_said,
)
from llmctl.core.memory.settings import Device, Settings
from llmctl.core.memory.wanted import Plan
from llmctl.core.profile import Profile
from llmctl.engine.box import Box
from llmctl.engine.observing import Record, apart, present, records
from llmctl.errors import LlmctlError
from llmctl.store.heads import head_of


def seen_of(box: Box, profile: Profile) -> tuple[Seen, ...]:
    """The starts that tell about later ones: same binary, files, environment and other words."""
    known = records(box, profile.name)
    if not known:
        return ()
    try:
        now = present(box, profile)
    except LlmctlError:  # it cannot be served as it is; that is told elsewhere
        return ()
    return tuple(
        Seen(settings_said(one.said), one.start, seat_said(one.said, _names(one)))
        for one in known
        if not any(apart(one, now, settings=SETTINGS_WORDS))
        and not not_modelled(one.said, one.environment)
    )


class Observed(msgspec.Struct, frozen=True):
    """The last start beside what is predicted of it.

    apart: in what it differed from the plan. rows: none where it cannot be predicted any more.
    reason: why deviations may be there; report: the line to report them with; both None without.
    """

    build: int | None
    apart: tuple[str, ...]
    rows: tuple[Row, ...]
    reason: str | None = None
    report: str | None = None


def observed(box: Box, name: str, plan: Plan) -> Observed | None:
    """A start of a profile, beside the prediction of what it ran with; None: none was seen.

    The last one that is like the plan, else the last one.
    """
    profile = box.store.profile(name)
    known = records(box, name)
    if not known:
        return None
    now = present(box, profile)
    parts = [(one, tuple(apart(one, now, settings=SETTINGS_WORDS))) for one in known]
    if not any(one.files == now.files for one in known):
        return Observed(known[-1].start.build, parts[-1][1], ())
    model = _model(box, box.store.model_path(profile.model))
    like = [(one, (*words, *_settings_apart(one, plan, model))) for one, words in parts]
    exact = [one for one in like if not one[1]]
    record, words = (exact or like)[-1]
    if record.files != now.files:
        return Observed(record.start.build, words, ())
    try:
        return _beside(box, record, words, plan, model)
    except LlmctlError as error:  # it ran, but no rule here can price it
        return Observed(record.start.build, (*words, error.message), ())


def _model(box: Box, path: str) -> Model:
    return model_of(head_of(box.host, path, cache_dir=box.store.cache_dir))


def _settings_apart(record: Record, plan: Plan, model: Model) -> Iterator[str]:
    devices = _names(record)
    if devices != tuple(room.name for room in plan.rooms):
        names = ", ".join(room.name for room in plan.rooms)
        yield f"devices {', '.join(devices) or 'none'}, now {names or 'none'}"
    count = len(devices)
    before = normal(settings_said(record.said), model, count)
    yield from differing(before, normal(plan.settings, model, count))


def _names(record: Record) -> tuple[str, ...]:
    return record.start.models[0].devices if record.start.models else ()


def _beside(box: Box, record: Record, words: tuple[str, ...], plan: Plan, model: Model) -> Observed:
    settings = settings_said(record.said)
    rooms = {room.name: room for room in plan.rooms}
    devices = [
        Device(name, rooms[name].total_bytes, rooms[name].free_bytes) if name in rooms
        else Device(name) for name in _names(record)
    ]  # fmt: skip
    estimator = Estimator(model, devices, build=record.start.build)
    made = _estimate(box, record, estimator, settings)
    where = place(model, settings, devices)
    spans = span(estimator.loader(mtp=settings.mtp).weights, settings, where)
    rows = compared(made, record.start, span_bytes=spans)
    found = Observed(record.start.build, words, rows)
    wrong = deviations(rows)
    if not wrong:
        return found
    return replace(found, reason=_reason(record, made), report=_report(record, model, wrong))


def _estimate(box: Box, record: Record, estimator: Estimator, settings: Settings) -> Estimate:
    drafting = projector = None
    if path := record.said.get("draft"):
        drafting = _draft(_model(box, path), record, estimator, settings)
    if path := record.said.get("mmproj"):
        projector = head_of(box.host, path, cache_dir=box.store.cache_dir)
    return estimator.estimate(settings, draft=drafting, mmproj=projector)


def _draft(model: Model, record: Record, estimator: Estimator, settings: Settings) -> Draft:
    """The draft model as it was: of as many layers, on one device, or divided over all."""
    names, said = [one.name for one in estimator.devices], record.said
    seat = seat_said(said, names)
    home = names.index(seat) if seat in names else CPU
    made = Drafting(model, settings.draft_k, settings.draft_v, home).at(
        settings, shape_of(estimator.model, settings).n_ctx
    )
    layers = said.get("draft_gpu_layers", "")
    own = replace(made.settings, gpu_layers=int(layers) if layers.isdigit() else None)
    return replace(made, settings=own, home=None if seat == DIVIDED else home)


def _reason(record: Record, made: Estimate) -> str:
    if words := not_modelled(record.said, record.environment):
        return f"llmctl has no rule for what {', '.join(words)} does to memory"
    if not made.exact:
        return f"the prediction is not exact: {made.warnings[0]}"
    return "a rule of llmctl is wrong or missing: this is a bug"


def _report(record: Record, model: Model, wrong: Sequence[Row]) -> str:
    said = {name: value.rpartition("/")[2] for name, value in sorted(record.said.items())}
    words = " ".join(f"{name}={value}" for name, value in said.items())
    return (
        f"llmctl {__version__}, llama.cpp build {record.start.build or 'unknown'}, architecture"
        f" {model.architecture or 'unnamed'}, {words}; {'; '.join(map(told, wrong))}"
    )
