"""What to try for a profile, and what of it fits: the planner says."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmctl.core.memory.advice import shortage
from llmctl.core.memory.model import Model, model_of
from llmctl.core.profile import Profile
from llmctl.core.tuning import Point, draft_point, draft_values, moe_point, moe_values, now_point
from llmctl.engine.box import Box
from llmctl.engine.planning import Place, place_of, plan_profile
from llmctl.errors import DoesNotFitError, UsageError
from llmctl.host.base import Host
from llmctl.store.heads import head_of
from llmctl.store.store import Loaded

if TYPE_CHECKING:
    from llmctl.core.memory.wanted import Plan


def trial_box(host: Host, profile: Profile) -> Box:
    """A box on which a profile is as given, whatever its file says. Nothing is written."""
    box = Box(host)
    loaded = Loaded(profile.name, profile.group, profile)
    box.store.profiles = {**box.store.profiles, profile.name: loaded}
    return box


class Points:
    """Of one profile. UsageError: there is nothing to try, and why."""

    def __init__(self, box: Box, name: str) -> None:
        self._box, self._profile = box, box.store.profile(name)
        self._place: Place = place_of(box, self._profile)
        self._planned = plan_profile(box, name, self._place, lambda wanted: wanted)
        self._plan: Plan = self._planned.plan
        if not self._plan.fits:
            raise DoesNotFitError(
                f"{name} does not fit as it is: {shortage(self._plan)}.",
                hint=f"llmctl plan {name} says what would.",
            )

    def of_experts(self, values: tuple[int, ...] = ()) -> tuple[Point, ...]:
        """Numbers of layers whose experts are on the CPU. values: instead of those around it."""
        name, plan = self._profile.name, self._plan
        model = self._model()
        if not model.experts:
            raise UsageError(
                f"{name} is no mixture of experts: n_cpu_moe changes nothing.",
                hint=f"`llmctl tune {name} --draft` tries drafts.",
            )
        if not plan.rooms or not plan.settings.gpu_layers:
            raise UsageError(f"{name} has no layer on a GPU: n_cpu_moe changes nothing.")
        now, ctx = plan.moved_layers, plan.settings.ctx
        if plan.settings.n_cpu_moe:
            now = plan.settings.n_cpu_moe
        others = (one for one in values or moe_values(now, model.trunk) if one != now)
        points = {one: moe_point(self._profile, one, ctx) for one in others}
        points[now] = now_point(self._profile, f"n_cpu_moe {now}")
        return tuple(self._judged(points[one]) for one in sorted(points))

    def of_drafts(self, values: tuple[int, ...] = ()) -> tuple[Point, ...]:
        """Numbers of tokens that are drafted at a time; 0 is none, and always tried."""
        profile, chosen = self._profile, self._planned.draft
        if not chosen.words:
            raise UsageError(
                f"{profile.name} drafts nothing ({chosen.told}).",
                hint="Say what is to draft, in its profile: draft: FILE.gguf, mtp or ngram.",
            )
        ctx = self._plan.settings.ctx
        wanted = sorted({0, profile.drafting.n_max, *values}) if values else draft_values(profile)
        if profile.drafting.model == "ngram":
            wanted = draft_values(profile)
        return tuple(self._judged(draft_point(profile, value, ctx)) for value in wanted)

    def _model(self) -> Model:
        store = self._box.store
        path = store.model_path(self._profile.model)
        return model_of(head_of(self._box.host, path, cache_dir=store.cache_dir))

    def _judged(self, point: Point) -> Point:
        """Does it fit?"""
        box = trial_box(self._box.host, point.profile)
        plan = plan_profile(box, point.profile.name, self._place, lambda wanted: wanted).plan
        return point if plan.fits else replace(point, why_not=shortage(plan))
