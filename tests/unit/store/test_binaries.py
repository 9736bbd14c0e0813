"""store/binaries.py: a build is asked once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fakes import FakeHost, Output
from support.world import HELP, OLD_HELP

from llmctl.core.config import Binary
from llmctl.errors import ProfileError
from llmctl.store.binaries import argv_with, find, flags_of

if TYPE_CHECKING:
    from llmctl.core.flags import Flags

PATH = "/opt/llama-server"


def make_host(help_text: str = HELP) -> FakeHost:
    host = FakeHost()
    host.install(PATH, lambda _: Output(stdout=help_text))
    return host


def ask(host: FakeHost, **env: str) -> Flags:
    return flags_of(host, PATH, Binary(path=PATH, env=dict(env)), cache_dir="/cache")


def test_flags_come_from_the_builds_help() -> None:
    assert "--fit" in ask(make_host())


def test_a_help_on_stderr_is_read_too() -> None:
    host = FakeHost()
    host.install(PATH, lambda _: Output(stderr=HELP))
    assert "--fit" in ask(host)


def test_a_build_is_asked_once() -> None:
    host = make_host()
    assert ask(host) == ask(host)
    assert len(host.calls) == 1


def test_a_rebuilt_binary_is_asked_again() -> None:
    host = make_host()
    ask(host)
    host.install(PATH, lambda _: Output(stdout=OLD_HELP))
    assert "--fit" not in ask(host)


def test_two_paths_that_look_alike_are_not_mixed_up() -> None:
    host = FakeHost()
    host.install("/a/b_c", lambda _: Output(stdout=HELP))
    host.install("/a_b/c", lambda _: Output(stdout=OLD_HELP))
    new, old = (
        flags_of(host, path, Binary(path=path), cache_dir="/cache") for path in ("/a/b_c", "/a_b/c")
    )
    assert ("--fit" in new, "--fit" in old) == (True, False)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"size_bytes": "x"}', b"\xff"])
def test_a_broken_cache_is_ignored(data: bytes) -> None:
    host = make_host()
    ask(host)
    (cache,) = host.paths("/cache")
    host.put(cache, data)
    assert "--fit" in ask(host)


def test_a_disk_that_takes_no_cache_only_costs_time() -> None:
    host = make_host()
    host.failing["/cache"] = "No space left on device"
    assert "--fit" in ask(host)


def test_a_build_is_asked_in_its_environment() -> None:
    host = make_host()
    host.install("/usr/bin/env", lambda _: Output(stdout=HELP))
    ask(host, LD_LIBRARY_PATH="/opt/lib")
    assert host.calls == [("env", "LD_LIBRARY_PATH=/opt/lib", PATH, "--help")]


def test_what_is_no_llama_server_is_refused_in_its_own_words() -> None:
    host = FakeHost()
    host.install(PATH, lambda _: Output(stderr="error while loading libggml.so\n", status=127))
    with pytest.raises(ProfileError, match=r"--help is not a llama-server's: error while loading"):
        ask(host)


def test_what_says_nothing_is_refused_with_its_status() -> None:
    host = FakeHost()
    host.install(PATH, lambda _: Output(status=139))
    with pytest.raises(ProfileError, match="status 139"):
        ask(host)


# find, argv_with


def test_a_build_is_found_on_the_path() -> None:
    host = FakeHost()
    host.install("/usr/bin/llama-server", lambda _: Output())
    found = find(host, "upstream", Binary(path="llama-server"), file="config.yaml")
    assert found == "/usr/bin/llama-server"


def test_a_build_that_is_not_there_is_refused_with_what_to_write() -> None:
    with pytest.raises(ProfileError, match=r"binaries\.tq3: /x is not an executable"):
        find(FakeHost(), "tq3", Binary(path="/x"), file="config.yaml")


def test_a_place_that_no_unit_can_name_is_refused() -> None:
    host = FakeHost()
    host.install("/usr/bin/a$b", lambda _: Output())
    with pytest.raises(ProfileError, match="cannot start a unit"):
        find(host, "tq3", Binary(path="a$b"), file="config.yaml")


def test_a_command_without_an_environment_is_itself() -> None:
    assert argv_with({}, "a", "b") == ("a", "b")
    assert argv_with({"X": 1}, "a") == ("env", "X=1", "a")
