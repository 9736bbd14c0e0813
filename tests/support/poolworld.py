"""A world with a card that fills up as models start, and servers that say whether they work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.fakes import Output
from support.heads import head_bytes
from support.small import small
from support.world import HELP, SERVER, Run, World, http

from llmctl.core.words import instance_of, unit_name
from llmctl.engine.holdings import Holdings
from llmctl.engine.status import overview

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIB = 1 << 20
DEVICES = "devices: {CUDA0: {reserve: 0}, RAM: {reserve: 0}}\n"
POOL = "groups: {gpu: {port: 12340, mode: pool}}\n"


class Sparse(bytes):
    """A file's head, and how long the file says it is: nobody reads the data behind it."""

    def __new__(cls, head: bytes, size: int) -> Sparse:
        made = super().__new__(cls, head)
        made.size = size
        return made

    size: int

    def __len__(self) -> int:
        return self.size


class PoolWorld(World):
    """One card, CUDA0. total_mib, others_mib: its memory, and what other programs hold of it.
    uses: what the server of a profile takes of it, in MiB. busy: profiles whose servers work."""

    def __init__(
        self, total_mib: int = 4096, *, config: str = POOL, ram_mib: int = 65536,
        devices: str = DEVICES,
    ) -> None:  # fmt: skip
        super().__init__()
        self.total_mib, self.others_mib = total_mib, 0
        self.uses: dict[str, int] = {}
        self.busy: set[str] = set()
        self.config(config + devices)
        self.host.install(SERVER, self._program)
        self.host.install("/usr/bin/env", self._program)
        ram = f"MemTotal: {ram_mib << 10} kB\nMemAvailable: {ram_mib << 10} kB\n"
        self.host.put("/proc/meminfo", ram)

    @property
    def free_mib(self) -> int:
        """What the card has free now."""
        up = (instance_of(name) for name in self.units if self.unit(name).pid)
        return self.total_mib - self.others_mib - sum(self.uses.get(one[0], 0) for one in up if one)

    def _program(self, argv: Sequence[str]) -> Output:
        if "--list-devices" in argv:
            size = f"{self.total_mib} MiB, {self.free_mib} MiB free"
            return Output(stdout=f"Available devices:\n  CUDA0: A card ({size})\n")
        if "--version" in argv:
            return Output(stderr="version: 0.7.0 (build 11669, commit x)\n")
        return Output(stdout=HELP)

    def model(self, name: str, layers: int, text: str = "ctx: 2048\n") -> None:
        """A profile with a model of about 28 MiB a layer, and what its server takes as planned."""
        head, size = head_bytes(small(layers=layers, width=1024))
        self.profile(name, text, file=Sparse(head, size))

    def installed(self) -> None:
        """As `llmctl apply`; from now on servers take what their plan says."""
        self.apply()
        for name in self.box.store.names:
            box = self.box
            priced = Holdings(box).priced(box.resolve(name))
            self.uses[name] = -(-priced.total[0] // MIB) if priced else 100

    def runs(self, *names: str) -> None:
        """Start them, and let them get ready."""
        for name in names:
            self.start(unit_name(name))
        self.clock.sleep(1)

    def running(self) -> list[str]:
        """Profiles that run."""
        return sorted({one.profile for one in overview(self.box).instances if one.pid})

    def _server(self, name: str, run: Run) -> Callable[[bytes], bytes]:
        plain, whose = super()._server(name, run), instance_of(name)

        def server(request: bytes) -> bytes:
            if request.startswith(b"GET /slots "):
                return http(200, [{"is_processing": bool(whose and whose[0] in self.busy)}])
            return plain(request)

        return server
