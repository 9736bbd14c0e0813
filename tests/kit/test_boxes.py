"""Boxes are whole machines: systemd, a lingering user, ssh, reboots, power cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.waiting import eventually

if TYPE_CHECKING:
    from kit.boxes import Box, Boxes, Lab
    from kit.commands import Done

UNIT = """\
[Service]
Environment=FAKE_LOG=/home/llm/fake.log
ExecStart=/srv/llmctl/tests/kit/fake_llama.py --host 0.0.0.0 --port 12340 --alias coder
[Install]
WantedBy=default.target
"""


def health(box: Box) -> Done:
    script = "import urllib.request as r; print(r.urlopen('http://{}:12340/health').read())"
    return box.lab.run(["python3", "-c", script.format(box.address)], check=False)


def test_a_box_has_what_llmctl_needs(any_box: Box) -> None:
    assert any_box.ssh("systemctl --user is-system-running --wait").stdout == "running\n"
    assert any_box.ssh("systemctl is-system-running --wait").stdout == "running\n"
    any_box.ssh("python3", "-c", "import typer, rich, msgspec, yaml, jinja2, llmctl")
    assert "version" in any_box.ssh(any_box.llama_server, "--version").stderr
    assert "llama-script.gguf" in any_box.ssh("ls", "/srv/models").stdout
    assert any_box.ssh("sudo -n id -u", user="admin").stdout == "0\n"


def test_words_reach_a_box_as_they_are(any_box: Box) -> None:
    assert any_box.ssh("printf", "%s|", "a b", "$HOME", "'").stdout == "a b|$HOME|'|"
    any_box.put("text\n", "/home/llm/a dir/a file")
    assert any_box.read("/home/llm/a dir/a file") == "text\n"


def test_a_units_journal_can_be_read_by_its_user(any_box: Box) -> None:
    any_box.ssh("systemd-run --user --unit=llm-hello --wait echo hello")
    eventually(lambda: "hello" in any_box.ssh("journalctl --user --unit=llm-hello").stdout)
    assert "hello" in any_box.ssh("journalctl --user-unit=llm-hello").stdout


def test_the_real_server_runs_in_a_box(any_box: Box) -> None:
    command = "/usr/local/bin/llama-server -m /srv/models/llama-script.gguf --port 12399"
    any_box.ssh(f"systemd-run --user --unit=llm-real {command}")
    eventually(
        lambda: (
            any_box.ssh(
                "python3",
                "-c",
                "import urllib.request as r; r.urlopen('http://127.0.0.1:12399/health')",
                check=False,
            ).returncode
            == 0
        )
    )
    any_box.ssh("systemctl --user stop llm-real")


def test_services_survive_a_reboot_and_a_power_cut(fresh_box: Box) -> None:
    fresh_box.put(UNIT, "/home/llm/.config/systemd/user/llm-coder.service")
    fresh_box.ssh("systemctl --user enable --now llm-coder.service")
    eventually(lambda: "ok" in health(fresh_box).stdout)
    fresh_box.reboot()
    eventually(lambda: "ok" in health(fresh_box).stdout)
    fresh_box.cut_power()
    assert "ok" not in health(fresh_box).stdout
    fresh_box.power_on()
    eventually(lambda: "ok" in health(fresh_box).stdout)
    starts = [line for line in fresh_box.read("/home/llm/fake.log").splitlines() if "start" in line]
    assert len(starts) == 3
    assert "llm-coder" in fresh_box.evidence()


def test_a_box_can_be_out_of_reach(fresh_box: Box) -> None:
    fresh_box.unplug()
    assert fresh_box.ssh("true", check=False).returncode == 255
    fresh_box.plug_in()
    assert fresh_box.ssh("echo back").stdout == "back\n"


def test_a_journal_in_memory_hides_even_a_users_own_lines(lab: Lab) -> None:
    box = lab.boot("trixie", volatile_journal=True)
    # the journal asks the kernel whose line it is: one that has ended by then belongs to no unit
    box.ssh("systemd-run --user --unit=llm-hello --wait sh -c 'echo hello; sleep 2'")
    assert "hello" not in box.ssh("journalctl --user --unit=llm-hello", check=False).stdout
    by_root = "journalctl _SYSTEMD_USER_UNIT=llm-hello.service"
    eventually(lambda: "hello" in box.root(by_root).stdout, why="root sees the line")
    box.remove()


def test_boxes_reach_each_other(box: Boxes) -> None:
    one, two = box("bookworm"), box("trixie")
    script = f"import socket; print(socket.create_connection(('{two.address}', 22)).recv(4))"
    assert one.ssh("python3", "-c", script).stdout == "b'SSH-'\n"
