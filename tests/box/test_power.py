"""The machine goes down in the middle: afterwards all is whole, and nothing runs unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually
from usermgr.scenarios import back_at_work, what_happened_before_the_power_went_is_over

if TYPE_CHECKING:
    from usermgr.site import BoxSite


@pytest.mark.parametrize("restart", ["reboot", "cut_power"])
def test_a_restart_while_the_old_model_stops(site: BoxSite, restart: str) -> None:
    site.profiles({"old": "slowstop=2", "new": ""})
    site.llmctl("apply")
    site.llmctl("switch", "old")
    told = site.begin("switch", "new")
    site.await_job("llm-new.service")
    getattr(site, restart)()
    told.result(timeout=30)
    what_happened_before_the_power_went_is_over(site)


def test_a_power_cut_while_the_new_model_loads(site: BoxSite) -> None:
    site.profiles({"old": "", "new": "load=30"})
    site.llmctl("switch", "old")
    told = site.begin("switch", "new")
    site.await_event("start", "new")
    site.cut_power()
    told.result(timeout=30)
    what_happened_before_the_power_went_is_over(site)


def test_a_power_cut_while_units_are_written_leaves_whole_ones(site: BoxSite) -> None:
    names = [f"m{number}" for number in range(8)]
    site.profiles(dict.fromkeys(names, ""))
    site.llmctl("apply")
    loop = """
        touch looping
        for ctx in $(seq 1024 9999); do
            sed -i "s/^ctx:.*/ctx: $ctx/" .config/llmctl/profiles/*.yaml && llmctl apply
        done
    """
    site.profiles(dict.fromkeys(names, ""), ctx=1000)
    busy = site.spawn("sh", "-c", loop)
    eventually(lambda: "-c 10" in site.read(site.unit_path("m7")), why="units are being written")
    site.cut_power()
    busy.result(timeout=30)
    units = {one["name"]: one["unit"] for one in site.json("list")}
    assert set(units) == set(names)
    assert set(units.values()) <= {"current", "stale"}
    site.llmctl("switch", "m3")
    back_at_work(site, "m3")


def test_an_enabled_model_comes_back_and_no_other(site: BoxSite) -> None:
    site.profiles({"a": "", "b": "", "c": ""})
    site.llmctl("apply")
    assert site.llmctl("enable", "a").stdout == "a starts at boot\n"
    assert site.llmctl("enable", "b").stdout == "b starts at boot, and a no longer\n"
    assert site.show("llm-a.service", "UnitFileState") == "disabled"
    site.llmctl("switch", "c")
    site.reboot()
    site.await_state("b", "ready")
    back_at_work(site, "b")
    site.cut_power()
    site.await_state("b", "ready")
    site.llmctl("disable", "b")
    back_at_work(site, "b")
    site.reboot()
    assert site.group() == (None, "stopped")
    assert site.active_units() == set()


def test_two_that_were_enabled_by_hand_still_exclude_each_other(site: BoxSite) -> None:
    site.profiles({"a": "", "b": ""})
    site.llmctl("apply")
    site.systemctl("enable", "llm-a.service", "llm-b.service")
    site.reboot()
    eventually(lambda: site.group()[1] in ("ready", "stopped"), why="the boot has settled")
    eventually(lambda: not site.jobs())
    assert len(site.active_units()) <= 1
    site.llmctl("switch", "a")
    back_at_work(site, "a")
