"""engine/alive.py on a real llama-server: what it answers to one token."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from usermgr.site import to_yaml

from llmctl.engine.alive import Life, life
from llmctl.engine.clock import SystemClock
from llmctl.host.local import LocalHost

if TYPE_CHECKING:
    from usermgr.site import ManagerSite


def life_of(site: ManagerSite, *, key: str | None = None, patience: float = 60.0) -> Life:
    return life(LocalHost(), site.port, key=key, clock=SystemClock(), patience=patience)


def served(site: ManagerSite, **keys: object) -> int:
    """Switch to a model; its process."""
    content = {"model": "llama-script.gguf", "ctx": 2048, **keys}
    site.put({site.profile_path("a"): to_yaml(content)})
    site.llmctl("switch", "a")
    return int(site.show("llm-a.service", "MainPID"))


def test_one_that_computes_is_alive_and_one_that_stands_still_is_dead(site: ManagerSite) -> None:
    pid = served(site)
    assert life_of(site) is Life.ALIVE
    os.kill(pid, signal.SIGSTOP)
    try:
        assert life_of(site, patience=1.0) is Life.DEAD
    finally:
        os.kill(pid, signal.SIGCONT)
    assert life_of(site) is Life.ALIVE


def test_one_that_makes_vectors_and_wants_a_key(site: ManagerSite) -> None:
    served(site, args=["--embeddings", "--pooling", "mean"], env={"LLAMA_API_KEY": "secret"})
    assert life_of(site, key="secret") is Life.ALIVE
    assert life_of(site, key="wrong") is Life.UNKNOWN
