"""llmctl provision: what it has Ansible do, and what it says of how that went. The playbook itself
is played on real boxes in another ring."""

from __future__ import annotations

import errno
import importlib.util
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from llmctl import __version__

if TYPE_CHECKING:
    from support.commandline import CommandLine

FAILED = {"task": "gpu : Look", "host": "box", "said": "no driver", "unreachable": False}


@pytest.fixture
def ansible(llmctl: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """An ansible-playbook that notes what it was told, and says what `outcome` holds."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    home = llmctl.home
    llmctl.program(
        "ansible-playbook",
        f"""echo "$@" > '{home}/argv'; cp "$2" '{home}/inventory'; env > '{home}/env'
echo progress
cat '{home}/outcome' > "$LLMCTL_OUTCOME"; exit $(cat '{home}/status')""",
    )
    says(llmctl, 0, {"ok": 40, "changed": 3, "failed": None})
    return llmctl


def says(llmctl: CommandLine, status: int, outcome: dict[str, Any] | str) -> None:
    (llmctl.home / "status").write_text(str(status))
    text = outcome if isinstance(outcome, str) else json.dumps(outcome)
    (llmctl.home / "outcome").write_text(text)


def told(llmctl: CommandLine) -> Any:
    """What the inventory said of the box."""
    return json.loads((llmctl.home / "inventory").read_text())["all"]["hosts"]


def test_a_box_gets_what_this_machine_knows(
    ansible: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    (ansible.config_dir / "hosts.yaml").write_text("boxes: {big: {ssh: me@192.0.2.7}}\n")
    (ansible.config_dir / "provision.yaml").write_text("power_enabled: true\n")
    said = ansible("provision", "big", "--tags", "llmctl", "-K")
    assert (said.status, said.stdout) == (0, "big is provisioned: 3 tasks changed something\n")
    assert told(ansible) == {
        "big": {
            "ansible_host": "192.0.2.7", "ansible_user": "me", "llmctl_source": "checkout",
            "llmctl_profiles_from": str(ansible.config_dir / "profiles"),
        }
    }  # fmt: skip
    argv = (ansible.home / "argv").read_text().split()
    assert argv[2].endswith("ansible/site.yml")
    assert argv[3:] == [
        "-e", f"@{ansible.config_dir}/provision.yaml", "--tags", "llmctl", "--ask-become-pass",
    ]  # fmt: skip
    env = (ansible.home / "env").read_text()
    assert "ANSIBLE_STDOUT_CALLBACK=llmctl" in env
    streams = capfd.readouterr()
    assert (streams.out, "progress" in streams.err) == ("", True)


def test_a_package_installs_itself(ansible: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.engine.provision.is_checkout", lambda: False)
    assert ansible("provision", "local", "--check", "--json").json == {
        "host": "local", "check": True, "ok": 40, "changed": 3,
    }  # fmt: skip
    here = told(ansible)["local"]
    assert here["ansible_connection"] == "local"
    assert here["llmctl_source"] == f"llmctl=={__version__}"


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"failed": FAILED}, ["on box, at “gpu : Look”: no driver"]),
        ({"failed": FAILED | {"unreachable": True}}, ["no driver"]),
        ("", ["see above"]),
    ],
)
def test_a_failure_says_what_and_where_and_how_to_resume(
    ansible: CommandLine, outcome: dict[str, Any] | str, words: list[str]
) -> None:
    says(ansible, 2, outcome)
    said = ansible("provision", "box", "--tags", "gpu")
    assert (said.status, said.stdout) == (5, "")
    for word in (*words, "llmctl provision box --tags gpu"):
        assert word in said.stderr


def test_what_is_not_there_is_said_before_anything_is_done(
    ansible: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (("--vars", "nowhere.yaml"), ("--profiles", "nowhere")):
        said = ansible("provision", "box", *words)
        assert said.status == 2
        assert "nowhere" in said.stderr
    monkeypatch.setenv("PATH", "/nowhere")
    said = ansible("provision", "box")
    assert said.status == 2
    assert "llmctl[provision]" in said.stderr
    assert not (ansible.home / "argv").exists()


def test_a_disk_that_takes_nothing_is_told(
    ansible: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    said = ansible("provision", "box")
    assert said.status == 5
    assert "No space left on device" in said.stderr
    assert "TMPDIR=DIR" in said.stderr


def test_without_a_stand_in_it_is_the_ansible_beside_us() -> None:
    from llmctl.engine.provision import _program

    assert _program() == (sys.executable, "-m", "ansible", "playbook")
