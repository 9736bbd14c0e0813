"""A draft model beside its target: what llama.cpp makes it with, and whether it is worth it.

common/speculative.cpp (common_base_params_to_speculative): a draft has the target's context, slots,
batches, flash attention and `--no-kv-offload`; of its own are K and V types, overrides and layers.
It also takes the target's `--tensor-split` over all its devices, and with that copies of its inputs
on each, so llmctl names one device.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from llmctl.core.memory.context import cache_type
from llmctl.core.memory.model import Model
from llmctl.core.memory.need import Draft
from llmctl.core.memory.place import CPU
from llmctl.core.memory.settings import Settings
from llmctl.core.memory.wanted import Plan, most
from llmctl.core.memory.weights import INPUT, Weights

WORTH = 4
"""A draft is worth it up to a quarter of what the target reads per token. Both wait for memory, so
a token takes as long as what it reads. With 3 tokens drafted at a time of which 6 in 10 are right,
a step makes 2.2 tokens in the time of 1 + 3 / WORTH: 1.2 times as fast. At a half it is slower."""
ENOUGH_CTX = 32768
"""Tokens that a draft nobody named never costs: below this, not one."""


class Drafting(msgspec.Struct, frozen=True):
    """A draft model with its types of K and V, and the one device it is on, or CPU."""

    model: Model
    type_k: str = "f16"
    type_v: str = "f16"
    home: int = CPU

    def at(self, settings: Settings, n_ctx: int) -> Draft:
        """What it is for a target with these settings, whose context comes to `n_ctx` tokens."""
        own = replace(
            settings, ctx=n_ctx, type_k=self.type_k, type_v=self.type_v, gpu_layers=None,
            tensor_split=(), split_mode="layer", main_gpu=0, n_cpu_moe=0, overrides=(), mtp=False,
            n_draft=0,
        )  # fmt: skip
        return Draft(self.model, own, self.home)


def drafting_for(model: Model, type_k: str, type_v: str) -> Drafting:
    """With types that its rows can have; else with llama.cpp's own, f16."""
    if model.is_mla:
        type_v = type_k  # there is no V, and llama.cpp wants them alike
    wide = {
        "k": {layer.k for layer in model.layers if layer.k},
        "v": {layer.v for layer in model.layers if layer.v},
    }
    pairs = (("k", type_k), ("v", type_v))
    fit = all(width % cache_type(one).block == 0 for which, one in pairs for width in wide[which])
    return Drafting(model, type_k, type_v) if fit else Drafting(model)


def is_worth(draft: Model, target: Model) -> bool:
    """Is it so much faster that drafting pays?"""
    return reads_per_token(draft) * WORTH <= reads_per_token(target)


def reads_per_token(model: Model) -> int:
    """Bytes of weights that one token takes: of experts those in use, of the embedding a row."""
    pieces = [one for one in Weights(model, mtp=False).pieces if one.unit != INPUT]
    experts = sum(one.tensor.nbytes for one in pieces if one.expert)
    dense = sum(one.tensor.nbytes for one in pieces if not one.expert)
    return dense + experts * (model.experts_used or 1) // max(1, model.experts)


def can_generate(model: Model) -> bool:
    """Is it a model that makes text by itself, by rules that are known? Embeddings do not, nor do
    heads that only work on another model's layers."""
    return not model.traits.cacheless and model.traits.guess is None


def better(home: int, plan: Plan) -> tuple[int, ...]:
    """Orders plans with a draft in different places, the best last: whole layers of the target on
    the devices count more than the draft there, and that more than experts and context."""
    room = plan.rooms[home].usable_bytes - most(plan.estimate.devices[home]) if home != CPU else 0
    settings = plan.settings
    layers = settings.gpu_layers or 0
    return (
        int(plan.fits), layers, int(home != CPU), -plan.moved_layers, settings.ctx, room, -home,
    )  # fmt: skip


def homes(devices: Sequence[object], *, named: bool) -> tuple[int, ...]:
    """Where a draft may go. One that nobody named does not go to the CPU beside devices: it would
    be slower than the target."""
    places = tuple(range(len(devices)))
    return (*places, CPU) if named or not places else places


def price(alone: Plan, beside: Plan, *, open_ctx: bool) -> str | None:
    """What a draft that nobody named would cost the target, in a clause; None: nothing that counts.

    It may cost context where that is open, as long as half of it is left, and ENOUGH_CTX.
    """
    if not beside.fits:
        return "would not fit beside the model"
    if (beside.settings.gpu_layers or 0) < (alone.settings.gpu_layers or 0):
        return "would push layers of the model to the CPU"
    if beside.moved_layers > alone.moved_layers:
        count = beside.moved_layers - alone.moved_layers
        return f"would push the experts of {count} layers to the CPU"
    had, has = alone.settings.ctx, beside.settings.ctx
    if open_ctx and has < max(had // 2, min(had, ENOUGH_CTX)):
        return f"would leave a context of {has} of {had}"
    return None
