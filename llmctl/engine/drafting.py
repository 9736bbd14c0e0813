"""What drafts for a profile's model on these devices: found, seated, and put into words.

A draft that the profile names is taken, wherever there is room. One that llmctl finds (`auto`) must
cost the model nothing that counts: see core/memory/drafting.py.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from llmctl.core.drafts import (
    HOST,
    NGRAM_MAX,
    OWN_TYPES,
    TRANSLATES,
    Chosen,
    Seat,
    model_words,
    mtp_words,
    ngram_words,
)
from llmctl.core.flags import Flags
from llmctl.core.gguf import Header
from llmctl.core.memory.drafting import (
    Drafting,
    better,
    can_generate,
    drafting_for,
    homes,
    is_worth,
    price,
)
from llmctl.core.memory.model import Model, model_of
from llmctl.core.memory.place import CPU
from llmctl.core.memory.planner import Planner
from llmctl.core.memory.wanted import Plan, Wanted
from llmctl.core.profile import Profile
from llmctl.engine.box import Box
from llmctl.errors import DraftError, GgufError, LlmctlError
from llmctl.store.drafts import heads, why_apart
from llmctl.store.heads import head_of
from llmctl.store.smaller import smaller_models

MODERN: Final = Flags(
    help={
        "--spec-type": "draft-simple,draft-mtp,ngram-mod",
        **dict.fromkeys(("-md", "--spec-draft-n-max", *OWN_TYPES, "-devd", "-ngld"), ""),
    }
)
"""What is assumed of a build that is not there to be asked."""
PlannerWith = Callable[[Drafting | None], Planner]


class Drafted(msgspec.Struct, frozen=True):
    """What to plan with what, what drafts then, and what is to be said of it."""

    planner: Planner
    wanted: Wanted
    chosen: Chosen
    warnings: tuple[str, ...] = ()


def drafted(
    box: Box, profile: Profile, header: Header, wanted: Wanted, planner_with: PlannerWith
) -> Drafted:
    """DraftError: the profile names a draft that cannot be."""
    return _Bench(box, profile, header, wanted, planner_with).drafted()


class _Bench:
    """One profile and all that is asked of it in the search."""

    def __init__(
        self, box: Box, profile: Profile, header: Header, wanted: Wanted, planner_with: PlannerWith
    ) -> None:
        self._box, self._profile, self._header = box, profile, header
        self._given, self._with = profile.drafting, planner_with
        self._plain = planner_with(None)
        self._flags = _flags(box, profile)
        self._path = box.store.model_path(profile.model)
        own = self._given.kv if all(one in self._flags for one in OWN_TYPES) else "f16"
        settings = wanted.settings
        self._types = (own, own) if own else (settings.type_k, settings.type_v)
        typed = replace(settings, draft_k=self._types[0], draft_v=self._types[1])
        self._wanted = replace(wanted, settings=typed)

    def drafted(self) -> Drafted:
        match self._given.model:
            case "off":
                return self._none("off")
            case "ngram":
                wanted, why = self._drawing(NGRAM_MAX), "repeats of the text itself"
                return Drafted(self._plain, wanted, Chosen(None, why, ngram_words()))
            case "mtp":
                return self._by_own_layers("the model's own next-token layers")
            case "auto":
                return self._found()
            case _:
                return self._named()

    def _drawing(self, n_max: int, *, mtp: bool = False) -> Wanted:
        """The request of a model for which so many tokens are drafted at a time."""
        settings = replace(self._wanted.settings, n_draft=n_max, mtp=mtp)
        return replace(self._wanted, settings=settings)

    def _none(self, why: str) -> Drafted:
        return Drafted(self._plain, self._wanted, Chosen(None, why))

    # Layers of the model itself

    def _by_own_layers(self, why: str) -> Drafted:
        if not self._plain.model.n_mtp:
            raise DraftError("mtp: the model's file has no next-token layers")
        seat = Seat(*self._types)
        words = mtp_words(self._given.n_max, self._flags, seat)
        wanted = self._drawing(self._given.n_max, mtp=True)
        return Drafted(self._plain, wanted, Chosen(None, why, words))

    # Draft models

    def _named(self) -> Drafted:
        path = self._box.store.beside(self._given.model, self._profile)
        header = head_of(self._box.host, path, cache_dir=self._box.store.cache_dir)
        warnings = [*self._apart(path, header)]
        found, plan = self._seated(model_of(header), named=True)
        if found.home == CPU and plan.rooms:
            warnings.append("The draft model is on the CPU, where it is slow: no device has room.")
        if len(plan.rooms) > 1 and "-devd" not in self._flags:
            warnings.append(
                "This llama-server has no -devd: it divides the draft model over the devices as it"
                " does the model, and the plan counts it on one."
            )
        return self._taken(path, found, "the profile names it", tuple(warnings))

    def _apart(self, path: str, header: Header) -> Iterator[str]:
        told = why_apart(self._box.host, path, header, self._path, self._header)
        if told and TRANSLATES in self._flags:
            yield f"The draft model is slow: {told}, and llama-server translates."
        elif told:
            raise DraftError(
                f"{path} cannot draft for this model: {told}. llama-server would load it and never"
                " use it"
            )

    def _seated(self, model: Model, *, named: bool) -> tuple[Drafting, Plan]:
        """The best place for a draft model, and the plan then."""
        wanted, draft = self._drawing(self._given.n_max), drafting_for(model, *self._types)
        seats = [replace(draft, home=home) for home in homes(self._plain.rooms, named=named)]
        plans = [(seat, self._with(seat).plan(wanted)) for seat in seats]
        return max(plans, key=lambda one: better(one[0].home, one[1]))

    def _taken(
        self, path: str, draft: Drafting, why: str, warnings: tuple[str, ...] = ()
    ) -> Drafted:
        rooms, layers = self._plain.rooms, len(draft.model.layers) + 1
        on_cpu = draft.home == CPU
        seat = Seat(
            draft.type_k, draft.type_v,
            layers=None if not rooms else 0 if on_cpu else layers,
            device=None if not rooms else HOST if on_cpu else rooms[draft.home].name,
        )  # fmt: skip
        if len(rooms) == 1 and not on_cpu:
            seat = replace(seat, device=None)
        words = model_words(path, self._given.n_max, self._flags, seat)
        wanted = self._drawing(self._given.n_max)
        return Drafted(self._with(draft), wanted, Chosen(path, why, words), warnings)

    # What nobody named

    def _found(self) -> Drafted:
        alone, open_ctx = self._plain.plan(self._wanted), self._wanted.ctx is None
        if not alone.fits:
            return self._none("the model does not fit even without")
        if self._plain.model.n_mtp and self._flags.says("--spec-type", "draft-mtp"):
            mine = self._by_own_layers("the model has next-token layers of its own")
            cost = price(alone, self._plain.plan(mine.wanted), open_ctx=open_ctx)
            return self._none(f"the model's own next-token layers {cost}") if cost else mine
        if "-md" not in self._flags or (len(alone.rooms) > 1 and "-devd" not in self._flags):
            return self._none("this llama-server has no -md or no -devd")
        path, model, why = self._smallest()
        if model is None:
            return self._none(why)
        draft, plan = self._seated(model, named=False)
        cost = price(alone, plan, open_ctx=open_ctx)
        return self._none(f"{path} {cost}") if cost else self._taken(path, draft, why)

    def _smallest(self) -> tuple[str, Model | None, str]:
        """The smallest model that can draft and is worth it; else why there is none."""
        store, host = self._box.store, self._box.host
        directory = store.expand(store.config.models_dir)
        files = smaller_models(host, directory, self._path)
        large, seen = "", 0
        for path, header in heads(host, files, cache_dir=store.cache_dir):
            model = _generator(header)
            if model is None:
                continue
            seen, worth = seen + 1, is_worth(model, self._plain.model)
            if (large and not worth) or self._differs(path, header):
                continue
            if worth:
                return path, model, "the smallest model in models_dir with its vocabulary"
            large = path
        if large:
            return "", None, f"{large} has its vocabulary, but is too large to make it faster"
        if not seen:
            return "", None, "there is no smaller model in models_dir"
        return "", None, f"no model of the {seen} smaller ones in models_dir has its vocabulary"

    def _differs(self, path: str, header: Header) -> bool:
        try:
            return bool(why_apart(self._box.host, path, header, self._path, self._header))
        except LlmctlError:
            return True  # it went away, or its vocabulary is broken


def _generator(header: Header) -> Model | None:
    """The model, if it is one that makes text: no projector, no adapter, no embedding."""
    said, name = header.metadata.get, header.architecture
    if said("general.type", "model") != "model" or said(f"{name}.pooling_type"):
        return None
    try:
        model = model_of(header)
    except GgufError:
        return None
    return model if can_generate(model) else None


def _flags(box: Box, profile: Profile) -> Flags:
    try:
        return box.store.flags(profile)
    except LlmctlError:
        return MODERN
