"""llmctl with --host: the same answers from somebody's own machine, over a real sshd."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from box.far import FarSite
from kit.waiting import eventually
from support.ssh_home import Operator
from usermgr.scenarios import last_words
from usermgr.site import DONE, FAILED, UNREACHABLE, to_yaml

from llmctl.errors import HostError, NoAnswerError
from llmctl.host.ssh import SSHHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.boxes import Box, Boxes
    from support.ssh_relay import Relay

ROUND_TRIP_S = 0.1
HANDSHAKE = 1  # TCP's own, which a relay on this machine answers at once


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with Operator(tmp_path_factory.mktemp("operator") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def relays(operator: Operator, box: Boxes) -> dict[str, Relay]:
    """A way to each system's box."""
    return {system: operator.meet(box(system)) for system in ("bookworm", "trixie", "forky")}


def far_site(operator: Operator, relays: dict[str, Relay], box: Box) -> FarSite:
    made = FarSite(box, operator, relays[box.name])
    made.set_up()
    return made


@pytest.fixture
def far(operator: Operator, relays: dict[str, Relay], box: Boxes) -> Iterator[FarSite]:
    made = far_site(operator, relays, box("trixie"))
    yield made
    made.relay.mend()
    made.relay.round_trip_s = 0.0
    made.close()


# The same answers


def test_each_system_is_rendered_switched_and_stopped_from_afar(
    operator: Operator, relays: dict[str, Relay], any_box: Box
) -> None:
    far = far_site(operator, relays, any_box)
    far.profiles({"a": "", "b": "oom"})
    assert "created" in far.llmctl("apply").stdout
    assert far.json("switch", "a")["state"] == "ready"
    told = far.llmctl("switch", "b", status=FAILED)
    assert "error: b failed: the GPU ran out of memory" in told.stderr
    assert "a is ready again" in told.stderr
    assert any("out of memory" in line for line in last_words(told))
    assert "listening on" in far.llmctl("logs").stdout
    assert far.llmctl("off").stdout == "stopped a\n"
    far.close()


def test_what_is_said_is_what_the_box_itself_says(far: FarSite) -> None:
    far.profiles({"a": "", "b": ""})
    far.llmctl("apply")
    far.llmctl("switch", "a")
    for words in (["list"], ["show", "a"], ["apply", "--check"], ["show", "nobody", "--json"]):
        there = far.run("llmctl", *words, check=False)
        here = far.llmctl(*words, status=there.returncode)
        assert (here.stdout, here.stderr) == (there.stdout, there.stderr)
    mine, its = (steady(json.loads(text)) for text in (
        far.llmctl("status", "--json").stdout, far.run("llmctl", "status", "--json").stdout,
    ))  # fmt: skip
    assert mine == its | {"host": far.box.name}


def steady(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what is another number a moment later."""
    for one in status["instances"]:
        for key in ("uptime_s", "memory_bytes"):
            assert one.pop(key) > 0
    return status


def test_two_machines_that_switch_at_once_end_with_one_model(far: FarSite) -> None:
    far.profiles({"a": "load=0.3", "b": "load=0.3"})
    far.llmctl("apply")
    both = [far.begin("switch", name) for name in ("a", "b")]
    said = {one.result().returncode for one in both}
    assert said <= {DONE, FAILED}
    assert DONE in said
    assert far.group()[1] == "ready"
    assert len(far.active_units()) == 1


def test_the_proxy_needs_llmctl_on_the_box_and_says_how(far: FarSite, box: Boxes) -> None:
    box("trixie").root("mv /usr/local/bin/llmctl /usr/local/bin/llmctl.away")
    try:
        told = far.llmctl("proxy", "install", status=UNREACHABLE)
    finally:
        box("trixie").root("mv /usr/local/bin/llmctl.away /usr/local/bin/llmctl")
    assert "needs llmctl there" in told.stderr
    assert "hint: Install it: ssh trixie pipx install llmctl" in told.stderr


# Round trips


def test_round_trips_are_few(far: FarSite, capsys: pytest.CaptureFixture[str]) -> None:
    """The fewest of a few tries: on a busy machine a load takes longer than one look at it."""
    far.profiles({"a": "", "b": ""})
    far.llmctl("apply")
    for name in ("a", "b"):
        far.llmctl("switch", name)
    far.relay.round_trip_s = ROUND_TRIP_S
    most = {("status",): 5, ("list",): 5, ("switch", "a", "b"): 8}
    counts = {words: fewest(far, *words, most=number) for words, number in most.items()}
    with capsys.disabled():
        told = {words[0]: count for words, count in counts.items()}
        sys.stdout.write(f"\nround trips, with both handshakes: {told}\n")
    assert all(counts[words] <= number for words, number in most.items())


def fewest(far: FarSite, command: str, *names: str, most: int) -> int:
    """Round trips until a command answers, with one for TCP's handshake; tried again while there
    are more than `most`."""
    counts = []
    for turn in range(6):
        hung_up(far)
        far.relay.reset_count()
        with far.popen(command, *names[turn % 2 : turn % 2 + 1]) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            counts.append(far.relay.round_trips + HANDSHAKE)
            process.communicate(timeout=60)
            assert process.returncode == DONE
        if counts[-1] <= most:
            break
    return min(counts)


def hung_up(far: FarSite) -> None:
    """Until nothing of earlier commands is on its way."""
    eventually(lambda: not far.relay.pairs, why="earlier connections are gone")


# Odd boxes


@pytest.fixture(scope="module")
def odd(operator: Operator, box: Boxes) -> str:
    """The name of a box where nothing is as usual: a home with a space, a shell that talks, a
    locale that is not UTF-8, no sudo, no environment that PAM would give."""
    there = box("trixie")
    there.root(
        "useradd --create-home --home-dir '/home/my home' --shell /bin/bash odd &&"
        " install -d -o odd -m 700 '/home/my home/.ssh' &&"
        " install -o odd -m 600 /home/llm/.ssh/authorized_keys '/home/my home/.ssh/' &&"
        " loginctl enable-linger odd"
    )
    noise = (
        "echo WELCOME; echo NOISE >&2\nexport LANG=de_DE.ISO-8859-1 LC_ALL=de_DE\n"
        "unset XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS\n"
    )
    old = there.ssh("cat .bashrc", user="odd").stdout
    there.ssh("cat >.bashrc", user="odd", stdin=noise + old)
    operator.meet(there, name="odd", user="odd")
    return "odd"


def test_an_odd_box_is_a_box(operator: Operator, odd: str, box: Boxes) -> None:
    there, home = box("trixie"), "/home/my home"
    config = {
        "models_dir": f"{home}/models",
        "binaries": {"upstream": there.fake_llama},
        "groups": {"gpu": {"port": 13777}},
    }
    there.put(to_yaml(config), f"{home}/.config/llmctl/config.yaml", user="odd")
    there.put('model: "é m.gguf"\n', f"{home}/.config/llmctl/profiles/a.yaml", user="odd")
    there.put("GGUF", f"{home}/models/é m.gguf", user="odd")
    assert "created /home/my home/.config" in llmctl(operator, odd, "apply").stdout
    assert "a is ready" in llmctl(operator, odd, "switch", "a").stdout
    assert " ready " in llmctl(operator, odd, "status").stdout
    assert "é m.gguf" in llmctl(operator, odd, "list").stdout
    assert llmctl(operator, odd, "off").stdout == "stopped a\n"


def llmctl(
    operator: Operator, host: str, *words: str, status: int = DONE
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "llmctl", *words],
        env=operator.environ | {"LLMCTL_HOST": host},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    return done


# Streams, channels, threads


def test_fifty_commands_leak_no_channel_and_no_thread(operator: Operator, far: FarSite) -> None:
    host = operator.host("trixie")
    host.run(["true"], timeout=10)
    before = threading.active_count()
    for number in range(50):
        assert host.run(["echo", str(number)], timeout=10).stdout == f"{number}\n"
    assert threading.active_count() == before
    open_channels = host.link().transport._channels  # type: ignore[attr-defined]
    eventually(lambda: len(open_channels) <= 1, why="only the next one is open")
    host.close()
    assert threading.active_count() == before - 2
    del far


# Who is there, and who is not


def alias(operator: Operator, name: str, **options: object) -> None:
    """One more Host in the operator's configuration, before the others."""
    lines = [f"Host {name}", *(f"  {key} {value}" for key, value in options.items()), ""]
    rest = operator.config.read_text("utf-8")
    operator.config.write_text("\n".join(lines) + rest, "utf-8")


def refusal(operator: Operator, name: str) -> HostError:
    host = SSHHost(name, environ=operator.environ)
    with pytest.raises(HostError) as caught:
        host.run(["true"], timeout=5)
    assert caught.value.exit_status == UNREACHABLE
    return caught.value


@pytest.fixture
def door(operator: Operator, relays: dict[str, Relay]) -> dict[str, object]:
    """What reaches the box, but for what a test makes wrong."""
    return {
        "HostName": "127.0.0.1",
        "Port": relays["trixie"].port,
        "User": "llm",
        "IdentityFile": operator.ssh / "id_lab",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": operator.known,
    }


def new_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def test_an_unknown_key_is_not_trusted(operator: Operator, door: dict[str, object]) -> None:
    alias(operator, "stranger", **door | {"UserKnownHostsFile": operator.ssh / "none"})
    error = refusal(operator, "stranger")
    assert "stranger is not known: its ed25519 key is SHA256:" in error.message
    assert "then: ssh stranger true" in str(error.hint)


def test_a_changed_key_is_told_with_the_line_that_forgets_it(
    operator: Operator, door: dict[str, object], tmp_path: Path
) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True
    )
    other = (tmp_path / "k.pub").read_text("ascii").rsplit(" ", 1)[0]
    known = operator.ssh / "changed"
    known.write_text(f"[127.0.0.1]:{door['Port']} {other}\n", "ascii")
    alias(operator, "changed", **door | {"UserKnownHostsFile": known})
    error = refusal(operator, "changed")
    assert "changed shows another host key" in error.message
    line = str(error.hint).partition("know why: ")[2].partition(", then")[0]
    subprocess.run(shlex.split(line), check=True, capture_output=True)
    assert "changed is not known" in refusal(operator, "changed").message


def test_a_key_that_is_not_taken_is_told(
    operator: Operator, door: dict[str, object], tmp_path: Path
) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True
    )
    alias(operator, "nokey", **door | {"IdentityFile": tmp_path / "k"})
    error = refusal(operator, "nokey")
    assert error.message.startswith("nokey lets nobody in as llm: 1 key was not taken")
    assert "ssh-copy-id nokey" in str(error.hint)


def test_the_second_key_is_taken_when_the_first_is_not(
    operator: Operator, door: dict[str, object], tmp_path: Path
) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True
    )
    both = f"{tmp_path / 'k'}\n  IdentityFile {operator.ssh / 'id_lab'}"
    alias(operator, "second", **door | {"IdentityFile": both})
    assert operator.host("second").run(["id", "-un"], timeout=10).stdout == "llm\n"


def locked_key(operator: Operator) -> Path:
    locked = operator.ssh / "id_locked"
    if not locked.exists():
        locked.write_bytes((operator.ssh / "id_lab").read_bytes())
        locked.chmod(0o600)
        change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(locked)]
        subprocess.run(change, check=True, capture_output=True)
    return locked


def test_a_locked_key_is_told_or_unlocked(operator: Operator, door: dict[str, object]) -> None:
    locked = locked_key(operator)
    alias(operator, "locked", **door | {"IdentityFile": locked})
    error = refusal(operator, "locked")
    assert f"{locked} is locked with a passphrase" in error.message
    assert error.hint == f"Unlock it once: ssh-add {locked}"
    asked = []

    def ask(question: str) -> str:
        asked.append(question)
        return "open sesame"

    host = SSHHost("locked", environ=operator.environ, ask=ask)
    assert host.run(["id", "-un"], timeout=10).stdout == "llm\n"
    host.close()
    assert asked == [f"Passphrase for {locked}: "]


def test_an_agent_is_asked(operator: Operator, door: dict[str, object]) -> None:
    alias(
        operator,
        "agent",
        **door | {"IdentityFile": operator.ssh / "none"} | {"IdentitiesOnly": "no"},
    )
    path = operator.ssh / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        eventually(path.exists, why="the agent listens")
        add = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        subprocess.run(
            ["ssh-add", operator.ssh / "id_lab"], env=add, check=True, capture_output=True
        )
        host = SSHHost("agent", environ={**operator.environ, "SSH_AUTH_SOCK": str(path)})
        assert host.run(["id", "-un"], timeout=10).stdout == "llm\n"
        host.close()
    finally:
        agent.terminate()
        agent.wait()


@pytest.mark.parametrize("way", ["ProxyJump", "ProxyCommand"])
def test_a_box_behind_another_is_reached(
    operator: Operator, relays: dict[str, Relay], box: Boxes, door: dict[str, object], way: str
) -> None:
    inner, known = box("bookworm"), operator.known.read_text("ascii")
    seen = f"[127.0.0.1]:{relays['bookworm'].port} "
    line = next(one for one in known.splitlines() if one.startswith(seen))
    operator.known.write_text(f"{known}bookworm-inside {line.removeprefix(seen)}\n", "ascii")
    words = "trixie" if way == "ProxyJump" else (f"ssh -F {operator.config} -W %h:%p trixie")
    inside = {"HostName": inner.address, "Port": 22, "HostKeyAlias": "bookworm-inside", way: words}
    alias(operator, f"behind-{way}", **door | inside)
    host = operator.host(f"behind-{way}")
    assert host.run(["hostname"], timeout=20).stdout == "bookworm\n"


def test_a_frozen_box_is_told_within_its_time(
    operator: Operator, relays: dict[str, Relay], box: Boxes, door: dict[str, object]
) -> None:
    alias(operator, "frozen", **door | {"ConnectTimeout": 1})
    box("trixie").freeze()
    try:
        error = refusal(operator, "frozen")
    finally:
        box("trixie").thaw()
    assert "nothing answered within 1 s: the box hangs" in error.message
    del relays


# The link goes down


def test_a_link_that_is_down_for_a_while_costs_nothing_but_time(far: FarSite) -> None:
    far.profile("a", "load=0.2")
    far.llmctl("apply")
    held = far.begin("switch", "a")
    far.await_event("start", "a")
    far.relay.cut()
    eventually(lambda: far.relay.held_bytes > 0, 20, why="the other side is asked for")
    far.relay.mend()
    assert held.result().returncode == DONE
    assert [one.word for one in far.events()] == ["start"]


def test_a_link_that_is_lost_leaves_the_outcome_open_and_the_switch_to_systemd(
    far: FarSite,
) -> None:
    far.profile("a", "load=2")
    far.llmctl("apply")
    held = far.begin("switch", "a")
    far.await_event("start", "a")
    far.relay.cut()
    told = held.result()
    far.relay.mend()
    assert told.returncode == UNREACHABLE
    assert "Whether a started is not known: the switch may go on in systemd." in told.stderr
    far.await_state("a", "ready")
    assert [one.word for one in far.events()] == ["start"]  # and was not sent twice


def test_a_command_is_not_sent_again(operator: Operator, far: FarSite) -> None:
    host = operator.host("trixie")
    host.run(["true"], timeout=10)
    lines = host.lines(["sh", "-c", "echo begun; sleep 60"])
    assert next(lines) == "begun"
    host.link().transport.close()
    with pytest.raises(NoAnswerError, match="is unknown"):
        next(lines)
    with pytest.raises(HostError, match="was not run"):
        host.run(["true"], timeout=10)
    del far
