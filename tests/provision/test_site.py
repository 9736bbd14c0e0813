"""From a fresh box to an answer on port 1234, and back to it after whatever befalls the box."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kit.boxes import SSH_CONFIG, SYSTEMS
from kit.waiting import eventually
from provision.conftest import KEY, prepare
from support.provisioning import soak

if TYPE_CHECKING:
    from pathlib import Path

    from kit.boxes import Box
    from kit.commands import Done
    from provision.conftest import Ground
    from support.provisioning import Provisioner

pytestmark = pytest.mark.timeout(900)  # a run takes minutes on a busy machine

CHAT = """\
import json, sys, urllib.request
asked = {"model": sys.argv[1], "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
request = urllib.request.Request(
    "http://127.0.0.1:1234/v1/chat/completions", json.dumps(asked).encode(),
    {"Content-Type": "application/json", "Authorization": "Bearer " + sys.argv[2]},
)
with urllib.request.urlopen(request, timeout=120) as answer:
    told = json.load(answer)
    print(json.dumps([answer.headers["X-Served-By"], told["choices"][0]["message"]["content"]]))
"""


def as_user(box: Box, line: str, *, check: bool = True) -> Done:
    """A line of the service user's shell, as after a login."""
    wrapped = f"export XDG_RUNTIME_DIR=/run/user/$(id -u); cd; {line}"
    return box.root(f"su serve -c {shlex.quote(wrapped)}", check=check)


def chat(box: Box, model: str) -> Any:
    """Who answered through port 1234, and what."""
    return json.loads(as_user(box, f"python3 -c {shlex.quote(CHAT)} {model} {KEY}").stdout)


def serves(box: Box) -> None:
    """A switch and a chat, as a user has them."""
    said = json.loads(as_user(box, "~/.local/bin/llmctl switch other --json").stdout)
    assert said["state"] == "ready"
    served_by, text = chat(box, "tiny")  # and so a switch by request
    assert served_by == "tiny"
    assert text


def starts_at_boot(box: Box) -> None:
    """Nobody logs in as the user, and still model and proxy are there. The model comes first: a
    request would start it, too."""
    line = "systemctl --user is-active llm-tiny.service llmctl-proxy.socket"
    eventually(
        lambda: as_user(box, line, check=False).stdout.split() == ["active", "active"],
        why="what is enabled runs after the boot",
    )
    assert chat(box, "tiny")[0] == "tiny"


def test_a_fresh_box_answers(ground: Ground) -> None:
    assert ground.first.recap["failed"] == 0
    serves(ground.box)


def provision(ground: Ground, place: Path, *words: str) -> Done:
    """`llmctl provision closet`, by what a machine knows of the box: hosts.yaml and variables."""
    config = place / "llmctl"
    config.mkdir(exist_ok=True)
    boxes = {"closet": {"ssh": f"ssh://admin@{ground.box.name}"}}
    (config / "hosts.yaml").write_text(json.dumps({"boxes": boxes}))
    variables = {**ground.variables, "ansible_ssh_common_args": f"-F {SSH_CONFIG}"}
    (config / "provision.yaml").write_text(json.dumps(variables, sort_keys=True))
    home = str(ground.provisioner.home)
    env = {
        "XDG_CONFIG_HOME": str(place), "ANSIBLE_HOME": home, "ANSIBLE_SSH_CONTROL_PATH_DIR": home,
    }  # fmt: skip
    argv = [sys.executable, "-m", "llmctl", "provision", "closet", *words]
    return ground.box.lab.run(argv, env=env, timeout=240, check=False)


def test_a_second_run_changes_nothing(ground: Ground, tmp_path: Path) -> None:
    """The first was plain ansible-playbook's, this one is llmctl's."""
    again = provision(ground, tmp_path, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["changed"] == 0, again.stderr
    assert "base : Make the user ... ok" in again.stderr
    assert KEY not in ground.first.text + again.stderr
    keys = ground.box.root("stat -c '%U %a' ~serve/.config/llmctl/keys").stdout
    assert keys.split() == ["serve", "600"]


def test_a_failure_ends_with_the_line_to_resume(ground: Ground, tmp_path: Path) -> None:
    builds = [{**ground.variables["llama_cpp_builds"][0], "sha256": "0" * 64}]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(json.dumps({"llama_cpp_builds": builds}))
    done = provision(ground, tmp_path, "--tags", "llama_cpp", "--vars", str(wrong))
    assert done.returncode == 5
    assert "error: closet is not provisioned: on closet, at “llama_cpp : " in done.stderr
    assert f"llmctl provision closet --vars {wrong} --tags llama_cpp" in done.stderr
    serves(ground.box)


def test_it_serves_after_a_reboot_and_a_power_cut(ground: Ground) -> None:
    ground.box.reboot()
    starts_at_boot(ground.box)
    ground.box.cut_power()
    ground.box.power_on()
    starts_at_boot(ground.box)


DAMAGE = """\
set -e
rm ~serve/.config/systemd/user/llm-other.service
echo 'binaries: [' > ~serve/.config/llmctl/config.yaml
rm /opt/llama.cpp/upstream/current/llama-b11669/bin/llama-server
loginctl disable-linger serve
"""
REPAIRS = {
    "Let the user manager run without a login",
    "Put the release in its place",
    "Write config.yaml",
    "Install the models' units",
    "Install the proxy",  # it ended with the user manager
}


def test_damage_is_repaired_and_nothing_else(ground: Ground) -> None:
    ground.box.root(DAMAGE)
    foretold = set(ground.play("--check", "--diff").changed)
    assert {"Write config.yaml", "Put the release in its place"} <= foretold <= REPAIRS
    assert "binaries: [" in ground.box.read("/home/serve/.config/llmctl/config.yaml", user="root")
    assert set(ground.play().changed) == REPAIRS
    serves(ground.box)


@pytest.mark.parametrize("system", [one for one in SYSTEMS if one != "trixie"])
def test_another_system_is_provisioned_too(
    system: str, provisioner: Provisioner, release: Path, wheel: Path
) -> None:
    if not soak():
        pytest.skip(f"ring ansible: a fresh {system} is provisioned with LLMCTL_SOAK=1 only")
    ground = prepare(provisioner, system, release, wheel)
    serves(ground.box)
    assert ground.play("--diff").changed == []
    ground.box.reboot()
    starts_at_boot(ground.box)
    ground.box.remove()
