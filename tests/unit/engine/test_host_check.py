"""engine/host_check.py: one thing at a time is in the way of driving a box from elsewhere."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from support.fakes import HOME, FakeHost, Output
from support.patients import NOW, Patient
from support.world import CONFIG_DIR

from llmctl.core.finding import Finding, Grade
from llmctl.core.hosts import HostEntry
from llmctl.engine.box import Box
from llmctl.engine.host_check import check
from llmctl.errors import HostError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from llmctl.engine.doctor import Diagnosis
    from llmctl.host.base import Entry

MAC = "a8:a1:59:00:12:34"
CARD = "/sys/class/net/enp5s0"
ENTRY = HostEntry(ssh="llm@big", mac=MAC)


def sound() -> Patient:
    made = Patient()
    made.host.install("/usr/bin/llmctl", lambda _: Output())
    made.host.put(f"{CARD}/address", f"{MAC}\n")
    made.host.put(f"{CARD}/device/power/wakeup", "enabled\n")
    environ = made.host.environ()
    assert isinstance(environ, dict)
    environ |= {"XDG_RUNTIME_DIR": "/run/user/1000", "PATH": "/usr/local/bin:/usr/bin"}
    return made


def checked(patient: Patient, entry: HostEntry | None = ENTRY) -> Diagnosis:
    return check(patient.box, name="big", entry=entry, ours=NOW)


def only(patient: Patient, name: str, entry: HostEntry | None = ENTRY) -> Finding:
    found = {
        one.check.name: one.findings for one in checked(patient, entry).checked if one.findings
    }
    assert set(found) == {name}
    (finding,) = found[name]
    return finding


def test_nothing_is_in_the_way_of_a_sound_box() -> None:
    patient = sound()
    found = checked(patient)
    assert [(one.check.name, one.grade) for one in found.checked] == [
        (name, Grade.OK)
        for name in (
            "session", "manager", "linger", "files", "ports", "config", "path", "binaries", "disk",
            "clock", "logs", "llmctl", "wake",
        )
    ]  # fmt: skip
    assert f"{HOME}/.cache/llmctl/host-check" not in patient.host.paths()


def test_without_a_session_the_manager_is_not_asked() -> None:
    patient = sound()
    environ = patient.host.environ()
    assert isinstance(environ, dict)
    del environ["XDG_RUNTIME_DIR"]
    found = {one.check.name: one for one in checked(patient).checked}
    (finding,) = found["session"].findings
    assert finding.do == "ssh -t llm@big 'sudo loginctl enable-linger ana'"
    assert found["manager"].behind == ("session",)
    assert found["manager"].grade is Grade.UNKNOWN


def test_what_root_has_to_do_is_told_as_it_is_typed_here() -> None:
    patient = sound()
    patient.host.remove("/var/lib/systemd/linger/ana")
    assert only(patient, "linger").do == "ssh -t llm@big 'sudo loginctl enable-linger ana'"
    assert only(patient, "linger", HostEntry(ssh="root@x", mac=MAC)).do.startswith("ssh -t root@x ")


def test_a_hint_that_ends_with_a_command_is_that_command() -> None:
    patient = sound()
    patient.refuses["show-environment"] = "Failed to connect to bus: No medium found\n"
    told = {one.check.name: one.findings for one in checked(patient).checked if one.findings}
    assert told["manager"][0].do == "ssh -t llm@big 'sudo loginctl enable-linger ana'"


def test_a_box_that_is_not_in_the_file_is_what_ssh_takes() -> None:
    patient = sound()
    patient.host.remove("/var/lib/systemd/linger/ana")
    told = [one.findings[0].do for one in checked(patient, None).checked if one.findings]
    assert told[0].startswith("ssh -t big ")


def test_a_home_that_takes_no_file() -> None:
    patient = sound()
    patient.host.full.add(f"{HOME}/.cache/llmctl/host-check")
    assert "No space left on device" in only(patient, "files").what


class Odd(FakeHost):
    """A box whose tools are others."""

    def stat(self, path: str) -> Entry | None:
        return None if path.endswith("host-check") else super().stat(path)


def test_a_box_with_other_tools() -> None:
    patient = sound()
    patient.host.__class__ = Odd
    assert "not those of GNU" in only(patient, "files").what


class Walled(FakeHost):
    """A box whose sshd forwards nothing."""

    def dial(self, port: int, *, timeout: float) -> socket.socket:
        del timeout
        raise HostError(f"sshd does not let llmctl reach port {port}.", hint="AllowTcpForwarding")


def test_an_sshd_that_forwards_nothing() -> None:
    patient = sound()
    patient.host.__class__ = Walled
    ssh, t, target, command = shlex.split(only(patient, "ports").do)
    assert (ssh, t, target) == ("ssh", "-t", "llm@big")
    assert shlex.split(command)[:3] == ["sudo", "sh", "-c"]


def test_a_program_on_the_port_that_is_tried_is_no_matter() -> None:
    patient = sound()
    patient.host.servers[9] = lambda _: b""
    assert checked(patient).is_sound


@pytest.mark.parametrize(
    "said",
    [
        "No journal files were opened due to insufficient permissions.\n",
        "No journal files were found.\n",
    ],
)
def test_a_journal_that_cannot_be_read(said: str) -> None:
    patient = sound()
    patient.host.install("/usr/bin/journalctl", lambda _: Output(stderr=said, status=1))
    assert only(patient, "logs").what == "ana cannot read what models write"
    patient.host.put("/var/log/journal/3b6623/system.journal", "")
    assert checked(patient).is_sound  # hers comes with the first line


def test_logs_in_files_need_no_journal() -> None:
    patient = sound()
    patient.host.install("/usr/bin/journalctl", lambda _: Output(status=1))
    patient.host.put(f"{CONFIG_DIR}/config.yaml", "logs: file\n")
    assert ("journalctl",) not in [call[:1] for call in patient.host.calls]
    assert checked(patient).is_sound


def test_a_box_without_llmctl_can_do_all_but_the_proxy() -> None:
    patient = sound()
    patient.host.remove("/usr/bin/llmctl")
    assert only(patient, "llmctl").grade is Grade.ADVICE
    assert checked(patient).is_sound


@pytest.mark.parametrize("entry", [None, HostEntry(ssh="big")])
def test_a_card_that_could_wake_the_box_is_told(entry: HostEntry | None) -> None:
    finding = only(sound(), "wake", entry)
    assert finding.what == f"enp5s0 ({MAC}) could wake it, and hosts.yaml does not say so"
    assert finding.do == f"llmctl host add big --mac {MAC}"


def test_what_llmctl_does_is_told_with_its_box() -> None:
    patient = sound()
    patient.host.remove("/usr/bin/llmctl")
    do = only(patient, "llmctl", HostEntry(ssh="big", mac=MAC)).do
    assert do == "install it, then: llmctl proxy install --host big"


def test_an_address_of_another_card_is_told() -> None:
    finding = only(sound(), "wake", HostEntry(ssh="big", mac="00-11-22-33-44-55"))
    assert finding.what.startswith("hosts.yaml says 00-11-22-33-44-55, and the box has enp5s0")


def test_an_address_may_be_written_in_either_way() -> None:
    entry = HostEntry(ssh="big", mac=MAC.upper().replace(":", "-"))
    assert checked(sound(), entry).is_sound
    assert not [one for one in checked(sound(), entry).checked if one.findings]


def test_a_card_that_is_not_armed_is_told() -> None:
    patient = sound()
    patient.host.put(f"{CARD}/device/power/wakeup", "disabled\n")
    assert only(patient, "wake").do == "ssh -t llm@big 'sudo ethtool -s enp5s0 wol g'"


def no_card(patient: Patient) -> None:
    for file in patient.host.paths(CARD):
        patient.host.remove(file)


def a_card_that_wakes_nobody(patient: Patient) -> None:
    patient.host.put(f"{CARD}/device/power/wakeup", "")


@pytest.mark.parametrize("done", [no_card, a_card_that_wakes_nobody])
def test_a_box_that_cannot_be_woken_is_not_asked_to(done: Callable[[Patient], None]) -> None:
    patient = sound()
    done(patient)
    assert checked(patient, None).is_sound
    assert not [one for one in checked(patient, HostEntry(ssh="big")).checked if one.findings]


def test_a_box_that_nobody_reaches_is_an_error() -> None:
    class Gone(FakeHost):
        def environ(self) -> dict[str, str]:
            raise HostError("big does not answer.")

    with pytest.raises(HostError, match="big does not answer"):
        check(Box(Gone()), name="big", entry=None, ours=NOW)
