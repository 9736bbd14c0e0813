"""cli/aliases.py: `llmctl aliases`; what aliases do in shells is in tests/contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmctl.errors import HostError
from llmctl.host.local import LocalHost
from llmctl.store.known_boxes import Known, KnownBoxes

if TYPE_CHECKING:
    import pytest
    from support.commandline import CommandLine

DEAD = "ssh://127.0.0.1:1"  # nobody listens on tcpmux
SEEN = Known(("mistral",), "/home/ana/.local/bin/llmctl", "http://100.64.0.9:1234/v1")


def test_json_has_commands_and_the_url(llmctl: CommandLine) -> None:
    said = llmctl("aliases", "--json").json
    assert list(said["aliases"]) == [
        "llcoder",
        "llgemma4",
        "lloff",
        "llstatus",
        "lllogs",
        "llsleep",
    ]
    assert said["aliases"]["llcoder"].endswith("llmctl switch coder")
    assert said["url"] == "http://127.0.0.1:1234/v1"


def test_a_box_that_was_never_seen_must_answer(llmctl: CommandLine) -> None:
    assert llmctl("aliases", "--host", DEAD).status == HostError.exit_status
    assert llmctl("aliases", "--host", DEAD, "--cached").status == HostError.exit_status
    KnownBoxes(LocalHost()).keep_names(DEAD, ["mistral"])  # as completion has it: without a URL
    assert llmctl("aliases", "--host", DEAD).status == HostError.exit_status


def test_a_box_that_sleeps_has_the_aliases_it_had(llmctl: CommandLine) -> None:
    KnownBoxes(LocalHost()).keep(DEAD, SEEN)
    asked, cached = (llmctl("aliases", "--host", DEAD, *words) for words in ([], ["--cached"]))
    assert "These are the aliases as they were last." in asked.stderr
    assert cached.stderr == ""
    assert asked.stdout == cached.stdout
    assert f"switch mistral --host {DEAD}" in cached.stdout
    assert cached.stdout.startswith("export LLM_URL=http://100.64.0.9:1234/v1\n")


def test_a_box_is_woken_as_hosts_yaml_says(llmctl: CommandLine) -> None:
    llmctl("host", "add", "big", DEAD, "--mac", "00:11:22:33:44:55")
    KnownBoxes(LocalHost()).keep("big", SEEN)
    said = llmctl("aliases", "--host", "big", "--ssh", "llm@big", "--cached", "--json").json
    assert "001122334455" in said["aliases"]["llwake"]
    llmctl("host", "add", "raspi", "pi@10.0.0.2")
    llmctl("host", "add", "big", "--via", "raspi")
    via = llmctl("aliases", "--host", "big", "--ssh", "llm@big", "--cached", "--json").json
    assert via["aliases"]["llwake"].startswith("ssh pi@10.0.0.2 ")
    assert said["aliases"]["llmistral"] == (
        "ssh -t llm@big '/home/ana/.local/bin/llmctl switch mistral'"
    )


def test_without_llmctl_on_the_box_it_is_said(
    llmctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{llmctl.home / 'bin'}:/bin")  # without this checkout's
    said = llmctl("aliases", "--ssh", "llm@big")
    assert "there is no llmctl on local; systemctl has to do" in said.stderr
    assert "systemctl --user start llm-coder.service" in said.stdout


def test_a_profile_that_is_named_as_a_verb_is_said(llmctl: CommandLine) -> None:
    llmctl.profile("status")
    said = llmctl("aliases")
    assert "no alias for the profile status: llstatus means something else" in said.stderr
