"""Disks that take nothing, and unit files that somebody else had a hand in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from usermgr import scenarios
from usermgr.scenarios import back_at_work
from usermgr.site import FAILED, PROFILE, STALE, UNREACHABLE

if TYPE_CHECKING:
    from usermgr.site import ManagerSite


@pytest.fixture
def small_disk(site: ManagerSite) -> str:
    """The unit directory, a disk of 64 KiB; it is unmounted with the manager."""
    site.run("mkdir", "--parents", site.unit_dir)
    site.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", site.unit_dir)
    return site.unit_dir


def test_a_full_disk_leaves_everything_as_it_was(site: ManagerSite, small_disk: str) -> None:
    scenarios.a_full_disk_leaves_everything_as_it_was(site, small_disk)


def test_a_disk_without_inodes_leaves_everything_as_it_was(site: ManagerSite) -> None:
    site.run("mkdir", "--parents", site.unit_dir)
    site.run("mount", "-t", "tmpfs", "-o", "nr_inodes=2,mode=755", "tmpfs", site.unit_dir)
    site.profile("a")
    told = site.llmctl("switch", "a", status=UNREACHABLE)
    assert "cannot be written: No space left on device." in told.stderr
    assert site.group() == (None, "stopped")


def test_units_can_be_kept_elsewhere_when_home_is_full(site: ManagerSite, small_disk: str) -> None:
    site.run("dd", "if=/dev/zero", f"of={small_disk}/fill", "bs=4096", check=False)
    site.configure(unit_dir="$XDG_RUNTIME_DIR/systemd/user")
    site.profiles({"a": "", "b": ""})
    site.llmctl("switch", "a")
    site.llmctl("switch", "b")
    back_at_work(site, "b")
    assert site.names(small_disk) == {"fill"}


def test_a_read_only_home_still_switches(site: ManagerSite) -> None:
    site.run("mount", "--bind", site.home, site.home)

    def remount(mode: str) -> None:
        site.run("mount", "-o", f"remount,bind,{mode}", site.home)

    scenarios.a_read_only_home_still_switches(site, remount)


@pytest.mark.parametrize("cache", ["/proc/no-cache", "/dev/full", "{home}/fake/script"])
def test_a_cache_that_cannot_be_written_does_not_matter(site: ManagerSite, cache: str) -> None:
    env = {"XDG_CACHE_HOME": cache.format(home=site.home)}
    site.profiles({"a": "", "script": ""})
    for command in (("switch", "a"), ("status",), ("list",), ("apply", "--check", "a")):
        assert site.llmctl(*command, env=env).stderr.count("error") == 0
    back_at_work(site, "a")


@pytest.mark.parametrize("garbage", ["", "{", "[1]", '{"x": 1}', "\0"])
def test_a_garbled_cache_is_made_anew(site: ManagerSite, garbage: str) -> None:
    site.profile("a")
    site.llmctl("switch", "a")
    caches = site.run("find", site.cache_dir, "-type", "f").stdout.splitlines()
    assert len(caches) == 2
    site.put(dict.fromkeys(caches, garbage))
    site.llmctl("apply", "--check")
    assert site.run("cat", *caches).stdout != garbage * 2


def test_a_unit_edited_by_hand_is_respected_until_it_is_overwritten(site: ManagerSite) -> None:
    site.profile("a")
    site.llmctl("apply")
    rendered = site.read(site.unit_path("a"))
    edited = rendered.replace("--alias a", "--alias a --threads-batch 7")
    assert edited != rendered
    site.put({site.unit_path("a"): edited})
    for command, status in ((("apply",), 0), (("apply", "--check"), STALE), (("switch", "a"), 0)):
        told = site.llmctl(*command, status=status)
        assert f"{site.unit_path('a')} was edited by hand" in told.stderr
        assert "--overwrite" in told.stderr
        assert site.read(site.unit_path("a")) == edited
    pid = site.show("llm-a.service", "MainPID")
    assert "--threads-batch" in site.read(f"/proc/{pid}/cmdline")
    assert "a: its unit was edited by hand" in site.llmctl("status").stdout
    assert site.json("list")[0]["unit"] == "edited"
    told = site.llmctl("apply", "--overwrite", "a")
    assert "--threads-batch" in told.stdout
    assert site.read(site.unit_path("a")) == rendered
    site.llmctl("switch", "a")
    pid = site.show("llm-a.service", "MainPID")
    assert "--threads-batch" not in site.read(f"/proc/{pid}/cmdline")


def test_a_drop_in_is_respected_and_survives_apply(site: ManagerSite) -> None:
    site.profile("a")
    drop_in = f"{site.unit_path('a')}.d/override.conf"
    site.put({drop_in: "[Service]\nEnvironment=MINE=1\n"})
    site.llmctl("switch", "a")
    pid = site.show("llm-a.service", "MainPID")
    assert "MINE=1" in site.read(f"/proc/{pid}/environ")
    site.profile("a", ctx=8192)
    site.llmctl("switch", "a")
    assert site.read(drop_in) == "[Service]\nEnvironment=MINE=1\n"
    assert "edited" not in site.llmctl("status").stdout


FOREIGN = "[Service]\nExecStart=/bin/sleep 1000\n"


def test_a_foreign_unit_of_our_name_is_refused_and_left_alone(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": ""})
    site.put({site.unit_path("a"): FOREIGN})
    site.llmctl("switch", "b")
    for command in (
        ("switch", "a"),
        ("switch", "a", "--dry-run"),
        ("apply",),
        ("apply", "--overwrite", "a"),
        ("apply", "--prune"),
        ("enable", "a"),
    ):
        told = site.llmctl(*command, status=PROFILE)
        assert f"{site.unit_path('a')} was not written by llmctl" in told.stderr, command
        assert site.read(site.unit_path("a")) == FOREIGN
    assert site.json("list")[0]["unit"] == "foreign"
    back_at_work(site, "b")
    site.remove(site.profile_path("a"))
    site.llmctl("apply", "--prune")
    assert site.read(site.unit_path("a")) == FOREIGN


def test_a_masked_unit_is_refused_and_stays_masked(site: ManagerSite) -> None:
    site.profiles({"a": "", "b": ""})
    site.llmctl("switch", "b")
    site.systemctl("mask", "llm-a.service")
    told = site.llmctl("switch", "a", status=PROFILE)
    assert site.unit_path("a") in told.stderr
    assert "unmask" in told.stderr
    assert site.run("readlink", site.unit_path("a")).stdout.strip() == "/dev/null"
    back_at_work(site, "b")
    site.systemctl("unmask", "llm-a.service")
    site.llmctl("switch", "a")
    back_at_work(site, "a")


def test_a_unit_that_systemd_cannot_load_is_not_a_reason_to_stop_the_old_model(
    site: ManagerSite,
) -> None:
    site.profiles({"a": "", "b": ""})
    site.llmctl("apply")
    site.llmctl("switch", "b")
    pid = site.show("llm-b.service", "MainPID")
    edited = site.read(site.unit_path("a")).replace("Type=exec\nExecStart=", "Type=exec\nX=")
    site.put({site.unit_path("a"): edited})
    told = site.llmctl("switch", "a", status=FAILED)
    assert "bad unit file setting" in told.stderr
    assert "b still runs." in told.stderr
    assert site.show("llm-b.service", "MainPID") == pid


def test_a_unit_file_that_went_away_is_written_again(site: ManagerSite) -> None:
    site.profile("a")
    site.llmctl("switch", "a")
    site.remove(site.unit_path("a"), f"{site.unit_dir}/llm.slice")
    site.llmctl("apply", "--check", status=STALE)
    site.llmctl("switch", "a")
    assert site.exists(site.unit_path("a"))
    assert site.exists(f"{site.unit_dir}/llm.slice")
    back_at_work(site, "a")
