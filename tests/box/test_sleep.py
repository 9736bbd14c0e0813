"""A box goes to sleep and is woken from another machine's LAN, all over SSH.

Sleep is made of what it does to others: the network card goes dead, by the command that sudo lets
the user run, and comes back when a magic packet is seen on the LAN.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from kit.boxes import LAB
from kit.waiting import eventually
from support.ssh_home import Operator
from usermgr.site import BoxSite

from llmctl.core.wake import magic_packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kit.boxes import Box
    from kit.commands import Done

MAC = "02:00:00:00:12:34"
LAN = "10.213.0.255"
# What `systemctl suspend` does in this box; everything else is systemd's.
SUSPEND = """\
#!/bin/sh
[ "$*" = suspend ] || exec /usr/bin/systemctl "$@"
exec ip link set host0 down
"""
RULE = "llm ALL=(root) NOPASSWD: /usr/local/bin/systemctl suspend\n"
# Waits on the LAN for the packet of a card, as the card does that it is for.
CARD = """\
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as card:
    card.bind(("", 9))
    print("armed", flush=True)
    while bytes.fromhex(sys.argv[1]) not in card.recv(2000):
        pass
"""


class Desk:
    """The machine one types at, and a box that can sleep."""

    def __init__(self, operator: Operator, sleeper: Box, site: BoxSite) -> None:
        self.operator, self.sleeper, self.site = operator, sleeper, site

    def llmctl(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "llmctl", *words]
        done = subprocess.run(
            argv, env=self.operator.environ, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done
        return done

    def in_it(self, line: str) -> str:
        """Run something in the box past its network."""
        return self.sleeper.lab.run([LAB, "sh", self.sleeper.name, "sh", "-c", line]).stdout

    def wake_when_called(self) -> Done:
        """Arm the card, and let the machine go on when its packet comes."""
        words = ["timeout", "60", "python3", "-c", CARD, magic_packet(MAC).hex()]
        done = self.sleeper.lab.run(words, timeout=70)
        self.in_it("ip link set host0 up")
        return done


@pytest.fixture
def desk(box: Callable[[str], Box], tmp_path: Path) -> Iterator[Desk]:
    sleeper, raspi = box("trixie"), box("bookworm")
    site = BoxSite(sleeper).set_up()
    with Operator(tmp_path / "home") as operator:
        operator.meet(sleeper, name="big")
        operator.meet(raspi, name="raspi")
        made = Desk(operator, sleeper, site)
        sleeper.put(SUSPEND, "/usr/local/bin/systemctl", user="root", mode="755")
        yield made
        made.in_it("ip link set host0 up; rm -f /usr/local/bin/systemctl /etc/sudoers.d/llmctl")
        sleeper.lab.lab("wait", sleeper.name)
        site.close()


def test_a_box_sleeps_and_wakes_with_the_model_that_is_wanted(desk: Desk) -> None:
    desk.site.profiles({"coder": "", "small": ""})
    desk.llmctl("switch", "coder", "--host", "big")
    refused = desk.llmctl("sleep", "big", status=5)
    assert "error: llm may not suspend big." in refused.stderr
    assert desk.site.active_units() == {"llm-coder.service"}

    assert RULE.strip() in refused.stderr  # what is typed is what the hint says
    desk.sleeper.put(RULE, "/etc/sudoers.d/llmctl", user="root", mode="440")
    assert desk.llmctl("sleep", "big").stdout == "stopped coder; big goes to sleep\n"
    assert "DOWN" in desk.in_it("ip -br link show host0")

    desk.llmctl("host", "add", "big", "--mac", MAC, "--via", "raspi", "--broadcast", LAN)
    with ThreadPoolExecutor(1) as others:
        called = others.submit(desk.wake_when_called)
        woken = desk.llmctl("wake", "big", "--then", "small", "--json")
        assert called.result(timeout=70).returncode == 0
    said = json.loads(woken.stdout)
    assert (said["box"], said["switch"]["profile"]) == ("big", "small")
    assert said["switch"]["state"] == "ready"
    assert desk.site.group() == ("small", "ready")


def test_a_box_elsewhere_is_examined(desk: Desk) -> None:
    """Nothing of llmctl is used on it; each thing that was spoiled is found, and no other."""
    site = desk.site
    site.profiles({"coder": ""})
    site.llmctl("apply")
    site.profiles({"coder": ""}, threads=3)
    desk.sleeper.root("loginctl", "disable-linger", "llm")
    words = ("--user", "--collect", "--unit=squatter", "python3", "-c", LISTENER, str(site.port))
    site.run("systemd-run", *words)
    try:
        eventually(lambda: site.exists(f"{site.home}/listening"), why="somebody has the port")
        told = json.loads(desk.llmctl("doctor", "--host", "big", "--json", status=1).stdout)
    finally:
        desk.sleeper.root("loginctl", "enable-linger", "llm")
        site.systemctl("stop", "squatter.service")
        site.remove(f"{site.home}/listening")
    assert told["host"] == "big"
    found = {one["name"]: one for one in told["checks"]}
    wrong = {name for name, one in found.items() if one["state"] == "wrong"}
    assert wrong == {"linger", "models", "units", "ports"}  # this model is four bytes
    assert found["linger"]["findings"][0]["do"] == "on big: sudo loginctl enable-linger llm"
    assert found["units"]["findings"][0]["do"] == "llmctl apply --host big"
    (taken,) = found["ports"]["findings"]
    assert f"port {site.port} is taken by pid" in taken["what"]
    assert taken["do"] == "on big: systemctl --user stop squatter.service"
    assert found["clock"]["state"] in ("ok", "advice")  # it is this machine's
    assert found["sleep"]["state"] == "ok"


LISTENER = """\
import pathlib, signal, socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    (pathlib.Path.home() / "listening").touch()
    signal.pause()
"""
