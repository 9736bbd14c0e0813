"""A box in memory with everything that `llmctl doctor` looks at in order; tests spoil one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import cards as real
from support.fakes import HOME, Output
from support.heads import head_bytes
from support.oracle import oracle
from support.world import HELP, SERVER, World

from llmctl.engine.doctor import Checked, Diagnosis, examine

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_800_000_000
DF = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
ROOMY = "/dev/sda1 100000000 40000000 60000000 40% /\n"


class Patient(World):
    """A World with one model, applied, and the small tools of a Linux box."""

    def __init__(self) -> None:
        super().__init__()
        self.listing = real.NONE
        self.starts = Output(stdout="version: 0.7.0\n")
        """What `llama-server --version` does."""
        self.rows: dict[str, str] = {}
        """Path -> its line of df."""
        self.locked: set[str] = set()
        """Paths that test(1) says no of."""
        self.date = f"{NOW}\n"
        self.host.install(SERVER, self._llama)
        self.host.install("/usr/bin/env", self._env)
        self.host.install("/usr/bin/df", self._df)
        self.host.install("/usr/bin/test", self._test)
        self.host.install("/usr/bin/date", lambda _: Output(stdout=self.date))
        self.host.install("/usr/bin/timedatectl", lambda _: Output(stdout="yes\n"))
        self.host.put("/var/lib/systemd/linger/ana", "")
        self.host.put("/proc/meminfo", real.MEMINFO)
        self.host.put(f"{HOME}/.profile", "")
        self.serve("a")
        self.apply()

    def serve(self, name: str, text: str = "", *, cut: int = 0) -> None:
        """A profile whose model's file has a true head; cut: bytes that its end lacks."""
        head, size = head_bytes(oracle()["models"]["llama31_8b"])
        self.profile(name, f"gpu_layers: 0\nctx: 4096\n{text}")
        self.host.put(f"/models/{name}.gguf", lambda: head)
        self.host.sizes[f"/models/{name}.gguf"] = size - cut

    def examined(self, *, ours: float | None = None) -> Diagnosis:
        """As `llmctl doctor`."""
        return examine(self.box, clock=self.clock, ours=ours)

    def check(self, name: str, *, ours: float | None = None) -> Checked:
        """One of its checks."""
        return next(one for one in self.examined(ours=ours).checked if one.check.name == name)

    def _llama(self, argv: Sequence[str]) -> Output:
        if "--version" in argv:
            return self.starts
        return Output(stdout=self.listing if "--list-devices" in argv else HELP)

    def _env(self, argv: Sequence[str]) -> Output:
        at = next((at for at, word in enumerate(argv) if word == SERVER), None)
        return self._llama(argv[at:]) if at is not None else Output(status=127)

    def _df(self, argv: Sequence[str]) -> Output:
        return Output(stdout=DF + "".join(self.rows.get(path, ROOMY) for path in argv[4:]))

    def _test(self, argv: Sequence[str]) -> Output:
        return Output(status=int(argv[-1] in self.locked))
