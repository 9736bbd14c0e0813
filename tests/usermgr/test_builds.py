"""Keys, and builds of llama-server that differ from the present one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from kit.test_fake_llama import get
from usermgr.scenarios import back_at_work
from usermgr.site import FAILED, PROFILE, STALE

if TYPE_CHECKING:
    from usermgr.site import ManagerSite


def test_a_key_in_the_profile_is_used_to_ask(site: ManagerSite) -> None:
    site.profile("a", env={"LLAMA_API_KEY": "sesame"})
    site.llmctl("switch", "a")
    assert get(site.port, "/v1/models")[0] == 401
    assert site.status()["instances"][0]["tokens_per_s"] == 42.5
    back_at_work(site, "a")


def test_the_first_of_several_keys_is_used_to_ask(site: ManagerSite) -> None:
    site.profile("a", env={"LLAMA_API_KEY": "one,two"})
    site.llmctl("switch", "a")
    assert site.status()["instances"][0]["tokens_per_s"] == 42.5


def test_a_key_file_is_used_to_ask(site: ManagerSite) -> None:
    keys = f"{site.home}/api keys"
    site.put({keys: "sesame\n"})
    site.profile("a", args=["--api-key-file", keys])
    site.llmctl("switch", "a")
    assert get(site.port, "/v1/models")[0] == 401
    assert site.status()["instances"][0]["tokens_per_s"] == 42.5
    back_at_work(site, "a")


def test_a_key_that_only_the_manager_knows_is_no_obstacle(site: ManagerSite) -> None:
    site.systemctl("set-environment", "LLAMA_API_KEY=sesame")
    site.profiles({"a": "", "b": "exit=1@0"})
    site.llmctl("switch", "a")
    assert get(site.port, "/v1/models")[0] == 401
    back_at_work(site, "a")
    site.llmctl("switch", "b", status=FAILED)
    back_at_work(site, "a")


def test_behind_a_key_a_strangers_answer_is_not_taken_for_ours(site: ManagerSite) -> None:
    """Ours still loads when the stranger, locked as well, answers on its port."""
    place = f"--host 127.0.0.1 --port {site.port} --alias a"
    site.manager.install(
        "stranger.service",
        f"[Service]\nEnvironment=FAKE_LLAMA=key\nExecStart={site.server} {place}",
    )
    site.systemctl("start", "stranger.service")
    site.profile("a", "key,load=1")
    told = site.llmctl("switch", "a", status=None)
    assert told.returncode != 0
    assert "taken by" in told.stderr
    assert "in stranger.service" in told.stderr


OLD = {"path": "{fake}", "env": {"FAKE_HELP": "old"}}
YOUNG_FLAGS = {"--fit", "-lv", "--sse-ping-interval"}


def argv(site: ManagerSite, name: str) -> list[str]:
    pid = site.show(f"llm-{name}.service", "MainPID")
    return site.read(f"/proc/{pid}/cmdline").split("\0")


def test_an_old_build_gets_only_flags_that_it_knows(site: ManagerSite) -> None:
    old = {"path": site.server, "env": {"FAKE_HELP": "old"}}
    site.configure(binaries={"upstream": old})
    site.profile("a")
    site.llmctl("switch", "a")
    words = argv(site, "a")
    assert not YOUNG_FLAGS & set(words)
    assert words[words.index("-fa") + 1].startswith("-")  # a switch then, without a value
    back_at_work(site, "a")


def test_two_builds_get_each_what_they_know_and_exclude_each_other(site: ManagerSite) -> None:
    """One file, two environments: what it can do may differ, e.g. by LD_LIBRARY_PATH."""
    old = {"path": site.server, "env": {"FAKE_HELP": "old"}}
    site.configure(binaries={"upstream": site.server, "fork": old})
    site.profile("new")
    site.profile("old", binary="fork")
    for name in ("new", "old", "new"):
        site.llmctl("switch", name)
        assert bool(YOUNG_FLAGS & set(argv(site, name))) == (name == "new")
        back_at_work(site, name)


def wrapper(site: ManagerSite, generation: str) -> dict[str, str]:
    return {
        f"{site.home}/bin/llama-server": "#!/bin/sh\n"
        f'FAKE_HELP={generation} exec {site.server} "$@"\n'
    }


def test_a_replaced_binary_is_asked_anew(site: ManagerSite) -> None:
    binary = f"{site.home}/bin/llama-server"
    site.configure(binaries={"upstream": "~/bin/llama-server"})
    site.put(wrapper(site, "old"))
    site.run("chmod", "755", binary)
    site.profile("a")
    site.llmctl("switch", "a")
    assert not YOUNG_FLAGS & set(argv(site, "a"))
    site.put(wrapper(site, "0.7.0"))
    site.llmctl("apply", "--check", status=STALE)
    assert "runs with older settings" in site.llmctl("status").stdout
    site.llmctl("switch", "a")
    assert set(argv(site, "a")) >= YOUNG_FLAGS
    site.put(wrapper(site, "old"))
    site.llmctl("switch", "a")
    assert not YOUNG_FLAGS & set(argv(site, "a"))
    back_at_work(site, "a")


def test_what_a_binary_can_do_is_asked_once(site: ManagerSite) -> None:
    asked = f"{site.home}/asked"
    binary = f"{site.home}/bin/llama-server"
    site.put({binary: f'#!/bin/sh\necho "$*" >>{asked}\nexec {site.server} "$@"\n'})
    site.run("chmod", "755", binary)
    site.configure(binaries={"upstream": binary})
    site.profiles({"a": "", "b": ""})
    for words in (("apply",), ("status",), ("list",), ("switch", "a"), ("switch", "b")):
        site.llmctl(*words)
    assert site.read(asked).splitlines().count("--help") == 1


def test_something_else_than_a_llama_server_is_refused(site: ManagerSite) -> None:
    site.configure(binaries={"upstream": "/bin/true"})
    site.profile("a")
    told = site.llmctl("switch", "a", status=PROFILE)
    assert "/bin/true --help is not a llama-server's" in told.stderr


def test_a_flag_that_a_build_lacks_is_refused_before_anything_is_stopped(
    site: ManagerSite,
) -> None:
    old = {"path": site.server, "env": {"FAKE_HELP": "old"}}
    site.configure(binaries={"upstream": site.server, "fork": old})
    site.profile("a")
    site.profile("b", binary="fork", args=["--moe-cache-mib", "64"])
    site.llmctl("switch", "a")
    told = site.llmctl("switch", "b", status=PROFILE)
    assert "args[0]: this llama-server has no --moe-cache-mib" in told.stderr
    back_at_work(site, "a")


@pytest.mark.parametrize("where", ["profile", "binary"])
def test_environment_of_profile_and_binary_reaches_the_server(
    site: ManagerSite, where: str
) -> None:
    path = f"{site.home}/fake/argv.json"
    shared = {"SHARED": "binary", "FAKE_ARGV_FILE": path}
    site.configure(binaries={"upstream": {"path": site.server, "env": shared}})
    site.profile("a", env={"SHARED": "profile"} if where == "profile" else {})
    site.llmctl("switch", "a")
    environ = json.loads(site.read(path))["environ"]
    assert environ["SHARED"] == where
    assert environ["GGML_NO_BACKTRACE"] == "1"
