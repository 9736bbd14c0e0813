"""From a model, settings and devices to bytes, per device and on the host.

    estimator = Estimator(model_of(header), [Device("CUDA0", 24 << 30, 23 << 30)], build=11434)
    plan = estimator.estimate(Settings(ctx=32768, type_k="q8_0", type_v="q8_0"))
    plan.devices[0].total_bytes, plan.exact, plan.warnings

A planner keeps the Estimator and asks it hundreds of times: only what depends on the settings is
then computed anew.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from llmctl.core.gguf import Header
from llmctl.core.memory.buffers import Buffer, Load
from llmctl.core.memory.compute import Graph
from llmctl.core.memory.context import Shape, Sizer, shape_of
from llmctl.core.memory.doubt import Doubt, DoubtedGraph
from llmctl.core.memory.model import Model
from llmctl.core.memory.need import Draft, Estimate, Need, need_of, with_draft, with_projector
from llmctl.core.memory.notes import notes, ram_notes
from llmctl.core.memory.place import CPU, Loader, Placement, place
from llmctl.core.memory.settings import CUDA, HOST, Device, Era, Settings, padding_of
from llmctl.core.memory.weights import Weights
from llmctl.core.memory.widths import borrowed_of, widths_of

NO_DOUBT = Doubt()


class Estimator:
    """Prices plans of one model on fixed devices. build: `llama-server --version` of the binary.
    doubt: how far off compute buffers may be at least, where more is known than their forms say."""

    def __init__(
        self, model: Model, devices: Sequence[Device], *, build: int | None = None,
        ram_bytes: int = 0, doubt: Doubt = NO_DOUBT,
    ) -> None:  # fmt: skip
        self.model, self.devices, self.era = model, tuple(devices), Era.of_build(build)
        self._ram_bytes, self._doubt = ram_bytes, doubt
        self._paddings = tuple(padding_of(device.name) for device in devices)
        self._loaders: dict[bool, Loader] = {}
        self._drafters: dict[tuple[int, int | None], Estimator] = {}
        self.widths = widths_of(model)
        self.borrowed = {one: borrowed_of(model, one) for one in {*self._paddings, HOST}}
        self._expert_layers = [bool(one) for one in self.borrowed[HOST].experts]

    def estimate(
        self,
        settings: Settings,
        *,
        draft: Draft | None = None,
        mmproj: Header | None = None,
    ) -> Estimate:
        """Everything, with the warnings; with a draft model, and a projector of images."""
        devices, host, shape = self.needs(settings)
        if draft is not None:
            devices, host = with_draft(devices, host, self.drafting(draft))
        if mmproj is not None:
            devices, host = with_projector(devices, host, mmproj)
        warnings, exact = notes(self.model, settings, self.devices, shape)
        kept = self.checkpoints(settings, shape)
        needed = host.total_bytes + settings.cache_ram_bytes + kept
        return Estimate(
            devices=devices, host=host, n_ctx=shape.n_ctx, era=self.era, exact=exact,
            cache_ram_max_bytes=settings.cache_ram_bytes, checkpoints_max_bytes=kept,
            warnings=(*warnings, *ram_notes(needed, host.total_bytes, kept, self._ram_bytes)),
        )  # fmt: skip

    def drafting(self, draft: Draft) -> tuple[tuple[Need, ...], Need]:
        """What a draft model needs on each device, and on the host."""
        key, home = (id(draft.model), draft.home), draft.home
        if key not in self._drafters:  # which keeps the model, so that its id stays its own
            seen = [one for n, one in enumerate(self.devices) if home in (None, n)]
            self._drafters[key] = Estimator(draft.model, seen, build=self.era.value)
        own, host, _ = self._drafters[key].needs(draft.settings)
        if home is None:
            return own, host
        none = [Need(name=device.name) for device in self.devices]
        return tuple(own[0] if n == home else one for n, one in enumerate(none)), host

    def needs(self, settings: Settings) -> tuple[tuple[Need, ...], Need, Shape]:
        """The numbers alone: what a search asks for, hundreds of times."""
        shape = shape_of(self.model, settings)
        where = place(self.model, settings, self.devices)
        weights = self.loader(mtp=settings.mtp).load(settings, where)
        kv, state = self._context(settings, shape, where, mtp=False)
        graph = self.graph(settings, shape)
        buffers = self._compute(settings, where, graph)
        devices = tuple(
            need_of(device.name, weights.devices[n], kv[n], state[n], buffers[n])
            for n, device in enumerate(self.devices)
        )
        host = need_of("host", weights.host, kv[CPU], state[CPU], buffers[CPU])
        outputs = max(1, settings.parallel) * (1 + settings.n_draft)
        host = replace(host, output_bytes=4 * self.model.n_vocab * outputs)
        return (*self._with_mtp(settings, devices, host), shape)

    def _with_mtp(
        self, settings: Settings, devices: tuple[Need, ...], host: Need
    ) -> tuple[tuple[Need, ...], Need]:
        if not settings.mtp or not self.model.n_mtp:
            return devices, host
        return with_draft(devices, host, self.predicting(settings))

    def graph(self, settings: Settings, shape: Shape) -> Graph:
        """What sizes the compute buffers of one context."""
        return DoubtedGraph(self.model, self.widths, settings, shape, self.era, self._doubt)

    def loader(self, *, mtp: bool) -> Loader:
        """The tensors that are loaded, with or without those of the MTP layers."""
        if mtp not in self._loaders:
            cuda = all(one.row == CUDA.row for one in self._paddings)
            weights = Weights(self.model, mtp=mtp, cuda=cuda and bool(self.devices))
            self._loaders[mtp] = Loader(weights, self.devices)
        return self._loaders[mtp]

    def checkpoints(self, settings: Settings, shape: Shape) -> int:
        """What context checkpoints may grow to in host memory: all slots, all of theirs.

        tools/server: only for models with a window (not --swa-full) or a recurrent state; each is
        a slot's window cache or its rows of state.
        """
        one = 0
        sizer = Sizer(self.model, settings, shape, HOST)
        for layer in self.model.layers:
            if layer.state:
                one += sizer.layer(layer).state // shape.rows
            elif layer.is_swa and not settings.swa_full:
                one += sizer.layer(layer).kv // (settings.parallel if not settings.unified else 1)
        return one * settings.checkpoints * max(1, settings.parallel)

    def _context(
        self, settings: Settings, shape: Shape, where: Placement, *, mtp: bool
    ) -> tuple[list[int], list[int]]:
        """K/V and state per device; the last entry is the host's."""
        kv, state = [0] * (len(self.devices) + 1), [0] * (len(self.devices) + 1)
        sizers = {one: Sizer(self.model, settings, shape, one) for one in {*self._paddings, HOST}}
        for number, layer in enumerate(self.model.layers):
            if layer.mtp if not mtp and not layer.trunk_cache else not layer.mtp and mtp:
                continue
            home = where.of(number) if settings.kv_offload else CPU
            size = sizers[HOST if home == CPU else self._paddings[home]].layer(layer)
            kv[home] += size.kv
            state[home] += 0 if mtp else size.state
        return kv, state

    def _compute(self, settings: Settings, where: Placement, graph: Graph) -> list[Buffer]:
        """One buffer per device, then the host's."""
        if not self.devices:
            return [graph.alone()]
        moved = self._moved(settings)
        experts = tuple(n for n in moved if where.of(n) != CPU)
        lent = tuple(range(min(where.start, len(self.model.layers))))
        used = self._used(where)
        if (experts or lent) and graph.lends:  # that goes to the first, though it has no layers
            used = sorted({0, *used})
        piped = self._piped(settings, where)
        buffers = [Buffer(0, 0.0)] * len(self.devices)
        for n in used:
            begin = where.runs[n][0]
            load = Load(
                first=begin == where.start,
                only_output=begin >= self.model.trunk and begin != where.start,
                experts_lent=experts if n == 0 else (),
                layers_lent=lent if n == 0 else (),
                dense=n > 0 and self._all_moved(where.runs[n], moved),
            )
            padding = self._paddings[n]
            buffers[n] = graph.device(load, self.borrowed[padding], padding, piped=piped)
        recurrent = any(self.model.layers[n].state for n in lent)
        return [*buffers, graph.host(piped=piped, lent=bool(lent), partial=recurrent)]

    def _all_moved(self, run: tuple[int, int], moved: tuple[int, ...]) -> bool:
        """Are the experts of all these layers the host's, if there are any?"""
        layers = range(run[0], min(run[1], len(self._expert_layers)))
        return all(n in moved for n in layers if self._expert_layers[n])

    def _used(self, where: Placement) -> list[int]:
        return [n for n, (first, last) in enumerate(where.runs) if last > first]

    def _piped(self, settings: Settings, where: Placement) -> bool:
        """Do the devices work on batches of their own? (llama-context.cpp: pipeline_parallel)"""
        moved = bool(settings.overrides) or settings.n_cpu_moe > 0
        whole = where.start == 0 and settings.kv_offload and settings.split_mode == "layer"
        return len(self.devices) > 1 and whole and not moved

    def _moved(self, settings: Settings) -> tuple[int, ...]:
        """The layers whose experts the host holds though they are on a device."""
        kept = set(range(min(settings.n_cpu_moe, len(self._expert_layers))))
        if settings.overrides:
            loader = self.loader(mtp=settings.mtp)
            for piece, target in loader.weights.overridden(settings.overrides):
                if piece.expert:
                    (kept.add if target == "CPU" else kept.discard)(piece.unit)
        last = len(self._expert_layers)
        return tuple(n for n in sorted(kept) if n < last and self._expert_layers[n])

    def predicting(self, settings: Settings) -> tuple[tuple[Need, ...], Need]:
        """The MTP context alone: a cache and compute of its own; its weights are the model's."""
        settings = settings.drafting
        shape = shape_of(self.model, settings)
        where = place(self.model, settings, self.devices)
        kv, _ = self._context(settings, shape, where, mtp=True)
        output = where.of(len(self.model.layers))
        home = where.of(len(self.model.layers) - 1)
        home = output if home == CPU else home  # then the device fetches what it needs
        padding = HOST if home == CPU else self._paddings[home]
        graph = self.graph(settings, shape)
        fetched, piped = 0 if home == CPU else kv[CPU], self._piped(settings, where)
        own, host = graph.predicting(padding, piped=piped, fetched=fetched)
        names = (*(device.name for device in self.devices), "host")
        needs = [
            need_of(name, 0, kv[n], 0, own if n == home else Buffer(0, 0.0))
            for n, name in enumerate(names)
        ]
        needs[CPU] = replace(
            need_of("host", 0, kv[CPU], 0, own if home == CPU else host),
            output_bytes=4 * self.model.n_vocab * max(1, settings.parallel),
        )
        if home == CPU and self.devices:  # the first device runs it all the same
            needs[0] = need_of(names[0], 0, kv[0], 0, Buffer(own.nbytes, 1.0))
        elif home != output:
            needs[output] = need_of(names[output], 0, kv[output], 0, graph.logits())
        return tuple(needs[:-1]), needs[CPU]


def estimate(
    model: Model, settings: Settings, devices: Sequence[Device], *, build: int | None = None
) -> Estimate:
    """One plan, once. To price many, keep an Estimator."""
    return Estimator(model, devices, build=build).estimate(settings)
