"""The proxy as it is, before a box that never changes: `proxy_runner.py PORT UPSTREAM_PORT LOG`.

All of llmctl.proxy runs, with an API key and with its request log (in the file LOG), and all that
it imports; only what it would ask systemd is answered here. GUARD=off in the environment: without
the guard.
"""

import hashlib
import os
import sys

from llmctl.core.eviction import Ledger
from llmctl.core.gpu_reports import GpuReport
from llmctl.core.guard.settings import GuardSettings
from llmctl.core.listening import Address
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.proxy import __main__ as program
from llmctl.proxy.keeper import Keeper, Progress, Seen
from llmctl.proxy.keys import ApiKey, Keyring
from llmctl.proxy.routing import Served

KEY = b"bench-key-0123456789"
"""What the clients (load.c) send."""


KEYS = Keyring((
    ApiKey("bench", hashlib.sha256(KEY).digest()),
    ApiKey("other", hashlib.sha256(b"another-key-0123").digest()),
))  # fmt: skip


class FixedKeeper:
    """One model that is ready for ever. See llmctl.proxy.keeper.Keeper."""

    @property
    def request_log(self) -> str:
        """See LocalKeeper."""
        return sys.argv[3]

    @property
    def guard_log(self) -> str:
        """See LocalKeeper."""
        return f"{sys.argv[3]}.guard"

    def addresses(self) -> tuple[Address, ...]:
        """See LocalKeeper."""
        return (Address("127.0.0.1", int(sys.argv[1])),)

    def look(self) -> Seen:
        """See Keeper."""
        port, upstream = int(sys.argv[1]), int(sys.argv[2])
        served = Served(
            name="bench", group="gpu", port=upstream, state=State.READY, pid=1, ctx=4096,
            guard=GuardSettings(mode="off" if os.environ.get("GUARD") == "off" else "on"),
        )  # fmt: skip
        settings = ProxySettings(listen=(f"127.0.0.1:{port}",))
        return Seen((served,), {"gpu": "bench"}, {}, settings, keys=KEYS)

    def keys(self) -> Keyring:
        """See LocalKeeper."""
        return KEYS

    def switch(self, name: str, *, timeout: float, progress: Progress) -> None:
        """See Keeper."""
        raise AssertionError(f"nothing is to be switched: {name}, {timeout}, {progress}")

    def restart(self, name: str) -> None:
        """See Keeper."""
        raise AssertionError(f"nothing hangs: {name}")

    def gpu_reports(self) -> tuple[GpuReport, ...]:
        """See Keeper."""
        return ()

    def slept(self) -> float | None:
        """See LocalKeeper."""
        return None

    def look_after(self) -> tuple[str, ...]:
        """See LocalKeeper."""
        return ()

    def start_replica(self, name: str, number: int, *, timeout: float) -> int:
        """See Keeper."""
        raise AssertionError(f"there is one instance: {name}, {number}, {timeout}")

    def stop_replica(self, name: str, number: int) -> None:
        """See Keeper."""
        raise AssertionError(f"there is one instance: {name}, {number}")

    def ledger(self, name: str) -> Ledger:
        """See Keeper."""
        raise AssertionError(f"no group is a pool: {name}")

    def unload(self, names: tuple[str, ...]) -> None:
        """See Keeper."""
        raise AssertionError(f"no profile has a ttl, and none hangs: {names}")


def fixed() -> Keeper:
    """Made where the program would make its own."""
    return FixedKeeper()


if __name__ == "__main__":
    if not hasattr(program, "LocalKeeper"):
        raise SystemExit("llmctl.proxy.__main__ makes its keeper elsewhere now")
    vars(program)["LocalKeeper"] = fixed
    program.main()
