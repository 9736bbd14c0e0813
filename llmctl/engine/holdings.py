"""What the models that run hold of a box's devices, and what one more would need.

What a model takes is what its plan says of the words that its process was started with; what is
free is what the machine says now. core/holding.py has the arithmetic.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from llmctl.core.config import Config
from llmctl.core.devices import RAM, Gpu, Ram
from llmctl.core.eviction import HOST
from llmctl.core.holding import Holder, Priced, Space
from llmctl.core.memory.request import settled
from llmctl.core.memory.wanted import Room, most
from llmctl.core.proc import parse_own_bytes
from llmctl.core.profile import Profile
from llmctl.core.state import State
from llmctl.engine.box import Box, Resolved
from llmctl.engine.devices import Survey, survey
from llmctl.engine.planning import Place, gpus_of, place_of, price_profile
from llmctl.engine.status import Instance
from llmctl.errors import LlmctlError

_UNMAPPED = ("--no-mmap", "--mlock")


class Holdings:
    """Of a box at one moment: each build is asked once what devices there are."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._seen: dict[str, tuple[Survey, Place]] = {}

    def priced(self, resolved: Resolved, words: Sequence[str] = ()) -> Priced | None:
        """What a profile takes that is started with the words of its unit, or with others; None:
        that cannot be planned."""
        profile = resolved.profile
        words = words or resolved.plan.words or settled(resolved.argv)
        try:
            seen, place = self._look(profile)
            if seen.ram is None or place.ram is None or (not place.rooms and place.warnings):
                return None  # devices that are not known may be there all the same
            made = price_profile(self._box, profile, words, place)
            gpus = gpus_of(self._box, profile, seen)
        except LlmctlError:
            return None
        spaces = [_space(*pair, self._config) for pair in zip(gpus, place.rooms, strict=True)]
        needs = (*made.devices, made.host)
        is_mapped = not any(word in resolved.argv for word in _UNMAPPED)
        return Priced(
            (*spaces, _memory(seen.ram, place.ram, self._config)),
            total=tuple(one.total_bytes for one in needs),
            least=tuple(one.total_bytes - one.compute_error_bytes for one in needs),
            most=tuple(most(one) for one in needs),
            mapped_bytes=made.host.weights_bytes if is_mapped else 0,
            exact=made.exact,
        )

    @property
    def _config(self) -> Config:
        return self._box.store.config

    def survey(self, profile: Profile) -> Survey:
        """What a profile's build lists now."""
        return self._look(profile)[0]

    def place(self, profile: Profile) -> Place:
        """The devices that it will use, whole."""
        return self._look(profile)[1]

    def keys(self, profile: Profile) -> tuple[str, ...]:
        """The keys of these devices, see Space."""
        gpus = gpus_of(self._box, profile, self.survey(profile))
        return tuple(gpu.pci or gpu.name for gpu in gpus)

    def _look(self, profile: Profile) -> tuple[Survey, Place]:
        """What a profile's server sees. Profiles with the same build see the same."""
        key = msgspec.json.encode((profile.binary, profile.env, profile.devices)).decode()
        if key not in self._seen:
            found = survey(self._box, profile=profile)
            self._seen[key] = (found, place_of(self._box, profile, seen=found))
        return self._seen[key]

    def holders(self, instances: Iterable[Instance]) -> tuple[Holder, ...]:
        """Of all that run, each model with its replicas, by name."""
        of: dict[str, list[Instance]] = {}
        for one in instances:
            if one.pid or one.state is State.LOADING:
                of.setdefault(one.profile, []).append(one)
        return tuple(self._holder(name, found) for name, found in sorted(of.items()))

    def _holder(self, name: str, instances: Sequence[Instance]) -> Holder:
        loading = any(one.state is not State.READY for one in instances)
        priced = [self._running(one) for one in instances]
        known = [one for one in priced if one is not None]
        own = [self._own(*pair) for pair in zip(instances, priced, strict=True)]
        group, back = instances[0].group, {HOST: sum(own)}
        if len(known) < len(priced):
            return Holder(name=name, group=group, returns=back, loading=loading)
        takes = _sum(one.by_key(one.total) for one in known)
        takes[HOST] -= sum(one.mapped_bytes for one in known[1:])
        returns = _sum(one.by_key(one.least) for one in known) | back
        return Holder(name=name, group=group, takes=takes, returns=returns, loading=loading)

    def _running(self, one: Instance) -> Priced | None:
        """What an instance takes, by the words of its process where its unit says others now."""
        try:
            resolved = self._box.resolve(one.profile)
        except LlmctlError:
            return None
        if one.number > 1 or self._box.running_process(one.pid) in (None, resolved.process):
            return self.priced(resolved)
        argv = self._box.read_proc(one.pid, "cmdline").decode(errors="replace").split("\0")
        return self.priced(resolved, settled(argv))

    def _own(self, one: Instance, priced: Priced | None) -> int:
        """Host memory that is its own: pages of the model's file are free memory already."""
        told = parse_own_bytes(self._box.read_proc(one.pid, "status").decode(errors="replace"))
        if told is not None or priced is None:
            return told or 0
        return max(0, priced.least[-1] - priced.mapped_bytes)


def _space(gpu: Gpu, room: Room, config: Config) -> Space:
    given = config.devices.get(gpu.name)
    is_told = given is not None and given.free is not None
    now = None if is_told else gpu.usable_bytes
    used = 0 if is_told else gpu.total_bytes - gpu.free_bytes
    total = room.free_bytes if is_told else gpu.total_bytes
    return Space(gpu.pci or gpu.name, gpu.name, now, room.usable_bytes, total, used)


def _memory(ram: Ram, room: Room, config: Config) -> Space:
    """The host. A declared size is all there is for models, whatever the machine has free."""
    given = config.devices.get(RAM)
    is_told = given is not None and not (given.free is None and given.total is None)
    now = None if is_told else max(0, ram.free_bytes - ram.reserve_bytes)
    used = 0 if is_told else ram.total_bytes - ram.free_bytes
    return Space(HOST, HOST, now, room.usable_bytes, room.total_bytes, used)


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        for key, size in part.items():
            found[key] = found.get(key, 0) + size
    return found
