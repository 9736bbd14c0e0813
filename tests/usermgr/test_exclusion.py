"""At most one model of a group, whoever asks for what, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from usermgr import scenarios

if TYPE_CHECKING:
    from usermgr.site import ManagerSite


@pytest.mark.parametrize(("first", "second", "slow_s"), [("a", "b", 8), ("b", "a", 3)])
def test_the_new_model_starts_only_when_the_old_one_is_gone(
    site: ManagerSite, first: str, second: str, slow_s: float
) -> None:
    scenarios.the_new_model_starts_only_when_the_old_one_is_gone(site, first, second, slow_s=slow_s)


@pytest.mark.parametrize("names", ["abc", "acb", "bca", "cba"])
def test_a_later_switch_displaces_a_pending_one(site: ManagerSite, names: str) -> None:
    scenarios.a_later_switch_displaces_a_pending_one(site, *names, slow_s=2.5)


def test_fifty_switches_by_four_callers_end_with_one_model(site: ManagerSite) -> None:
    ended = scenarios.many_callers_end_with_one_model(site, callers=4, switches=50, seed=20261107)
    assert any(done.returncode == 0 for done in ended)
    assert any("was displaced by" in done.stderr for done in ended)
