"""Sessions as people and programs have them: cron, sudo, a lost connection, odd disks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually
from usermgr import scenarios
from usermgr.scenarios import back_at_work, last_words
from usermgr.site import FAILED, UNREACHABLE, BoxSite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.boxes import Lab

BARE = ("env", "-i", "HOME=/home/llm", "LOGNAME=llm", "PATH=/usr/bin:/bin", "SHELL=/bin/sh")


@pytest.mark.parametrize(
    "session",
    [
        ("env", "-u", "XDG_RUNTIME_DIR", "llmctl"),
        ("env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", "llmctl"),
        (*BARE, "/usr/local/bin/llmctl"),
    ],
    ids=["no runtime directory", "no bus either", "cron"],
)
def test_a_bare_environment_is_enough(site: BoxSite, session: tuple[str, ...]) -> None:
    site.profiles({"a": "", "b": "exit=1@0"})
    site.run(*session, "switch", "a")
    assert " ready " in site.run(*session, "status").stdout
    told = site.run(*session, "switch", "b", check=False)
    assert told.returncode == FAILED
    assert last_words(told)
    back_at_work(site, "a")
    assert "listening on" in site.run(*session, "logs").stdout


def test_sudo_to_the_models_user_is_enough(site: BoxSite) -> None:
    site.profile("a")
    site.box.ssh("sudo -u llm -H /usr/local/bin/llmctl switch a", user="admin")
    assert (
        " ready "
        in site.box.ssh("sudo -u llm -i /usr/local/bin/llmctl status", user="admin").stdout
    )
    back_at_work(site, "a")


def test_sudo_to_root_is_told_as_the_mistake_that_it_is(site: BoxSite) -> None:
    site.box.ssh("sudo systemctl stop user@0.service", user="admin")
    told = site.box.ssh("sudo /usr/local/bin/llmctl status", user="admin", check=False)
    assert told.returncode == UNREACHABLE
    assert "Run llmctl without sudo, as admin." in told.stderr


@pytest.mark.parametrize("become", ["--user=nobody", "setpriv --reuid=nobody"])
def test_a_user_without_a_manager_is_told_how_to_get_one(site: BoxSite, become: str) -> None:
    command = f"sudo {become} env HOME=/tmp USER=nobody /usr/local/bin/llmctl status"
    told = site.box.ssh(command, user="admin", check=False)
    assert told.returncode == UNREACHABLE
    assert "the systemd user manager of nobody on local does not answer" in told.stderr
    assert "sudo loginctl enable-linger nobody" in told.stderr


def test_a_lost_connection_leaves_the_switch_to_systemd(site: BoxSite) -> None:
    site.profiles({"old": "slowstop=2", "new": ""})
    site.llmctl("apply")
    site.llmctl("switch", "old")
    told = site.begin("switch", "new")
    site.await_job("llm-new.service")
    site.box.ssh("sudo pkill --full '^sshd.*: llm@notty'", user="admin", check=False)
    assert told.result(timeout=30).returncode != 0
    site.await_state("new", "ready")
    back_at_work(site, "new")


@pytest.fixture
def small_disk(site: BoxSite) -> Iterator[str]:
    """The unit directory, a disk of 64 KiB."""
    site.run("mkdir", "--parents", site.unit_dir)
    site.box.root(f"mount -t tmpfs -o size=64k,uid=1001,gid=1001 tmpfs {site.unit_dir}")
    yield site.unit_dir
    site.box.root(f"umount --lazy {site.unit_dir}")


def test_a_full_disk_leaves_everything_as_it_was(site: BoxSite, small_disk: str) -> None:
    scenarios.a_full_disk_leaves_everything_as_it_was(site, small_disk)


@pytest.fixture
def mounted_home(site: BoxSite) -> Iterator[BoxSite]:
    site.box.root("mount --bind /home/llm /home/llm")
    yield site
    site.box.root("umount --lazy /home/llm")


def test_a_read_only_home_still_switches(mounted_home: BoxSite) -> None:
    def remount(mode: str) -> None:
        mounted_home.box.root(f"mount -o remount,bind,{mode} /home/llm")

    scenarios.a_read_only_home_still_switches(mounted_home, remount)


def test_the_real_server_is_switched_to_and_fro(site: BoxSite) -> None:
    site.configure(binaries={"upstream": site.box.llama_server}, models_dir="/srv/models")
    site.profiles({"one": "", "two": ""}, model="llama-script.gguf", ctx=1024)
    for name in ("one", "two", "one"):
        site.llmctl("switch", name)
        back_at_work(site, name)


@pytest.fixture
def forgetful(lab: Lab) -> Iterator[BoxSite]:
    """A box that keeps its journal in memory, where a user may not read it."""
    box = lab.boot("trixie", volatile_journal=True)
    site = BoxSite(box).set_up()
    yield site
    site.close()
    box.remove()


def test_without_a_readable_journal_the_error_is_true_and_has_a_remedy(
    forgetful: BoxSite,
) -> None:
    site = forgetful
    site.profiles({"old": "", "new": "oom"})
    site.llmctl("switch", "old")
    told = site.llmctl("switch", "new", status=FAILED)
    assert "error: new failed: it ended with status 1" in told.stderr
    assert "old is ready again." in told.stderr
    assert last_words(told) == []
    hint = told.stderr.partition("hint: ")[2]
    assert "/var/log/journal" in hint
    assert "logs: file" in hint
    assert "logs: file" in site.llmctl("logs", "new").stderr
    site.configure(logs="file")
    told = site.llmctl("switch", "new", status=FAILED)
    assert "the GPU ran out of memory" in told.stderr
    back_at_work(site, "old")


def test_lines_are_followed_as_they_come(site: BoxSite) -> None:
    site.profile("a", "load=1")
    site.llmctl("apply")
    pipe = "llmctl logs --follow a | grep --max-count=1 'model loaded'"
    following = site.spawn("timeout", "20", "sh", "-c", pipe)
    eventually(lambda: "journalctl" in site.run("ps", "-eo", "comm").stdout)
    site.llmctl("switch", "a", "--no-wait")
    assert "model loaded" in following.result(timeout=30).stdout
