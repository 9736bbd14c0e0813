"""A machine wakes up with models that are as good as gone, on a real user manager.

That it has slept is said to the code; when a process began, by both clocks, Linux and systemd say.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usermgr.site import ManagerSite

UNIT = "llm-a.service"
LOOK = """\
import json
from llmctl.engine.box import Box
from llmctl.engine.clock import SystemClock, slept_s
from llmctl.engine.resume import look_after
from llmctl.host.local import LocalHost
slept = slept_s() + 10.0
found = look_after(Box(LocalHost()), clock=SystemClock(), report=print, slept=slept)
print(json.dumps({one.name: one.life.value for one in found}))
"""


def looked_after(site: ManagerSite) -> Any:
    return json.loads(site.run(site.python(), "-c", LOOK).stdout.splitlines()[-1])


def test_a_model_that_died_in_its_sleep_is_restarted_and_one_that_lives_is_not(
    site: ManagerSite,
) -> None:
    site.profile("a", "nogpu")
    site.llmctl("switch", "a")
    assert site.group() == ("a", "ready")  # /health says nothing of the GPU
    before = site.show(UNIT, "InvocationID")
    site.behave("a", "")  # a new process has a new context
    assert looked_after(site) == {"a": "dead"}
    site.await_state("a", "ready")
    after = site.show(UNIT, "InvocationID")
    assert after != before

    assert looked_after(site) == {"a": "alive"}  # so the restarted one computes
    assert looked_after(site) == {}  # and is not asked once more
    assert site.show(UNIT, "InvocationID") == after
