"""cli/doctor.py: what `llmctl doctor` prints, and how it ends."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from support.patients import Patient

from llmctl.cli.doctor import _show, facts

if TYPE_CHECKING:
    from support.commandline import CommandLine


def printed(patient: Patient) -> list[str]:
    with redirect_stdout(io.StringIO()) as out:
        _show(patient.examined())
    return out.getvalue().splitlines()


def test_a_sound_box_is_told_so() -> None:
    lines = printed(Patient())
    assert lines[0].split() == ["CHECK", "STATE", "ABOUT"]
    assert lines[-1] == "nothing is wrong"


def test_a_finding_has_what_why_and_what_to_type() -> None:
    patient = Patient()
    patient.host.remove("/var/lib/systemd/linger/ana")
    assert printed(patient)[-6:] == [
        "",
        "linger: ana does not linger",
        "  why:  Models and the proxy end with the last login, and start at none.",
        "  type: sudo loginctl enable-linger ana",
        "",
        "1 thing is wrong",
    ]


def test_a_check_that_waits_for_another_says_for_which() -> None:
    patient = Patient()
    patient.config("groups: 7")
    assert any("not looked at: config must be ok first" in line for line in printed(patient))
    units = next(one for one in facts(patient.examined())["checks"] if one["name"] == "units")
    assert (units["state"], units["behind"], units["findings"]) == ("unknown", ["config"], [])


def test_the_exit_status_says_that_something_is_wrong(llmctl: CommandLine) -> None:
    said = llmctl("doctor", "--json")  # these model files have no tensors
    assert said.status == 1
    assert said.json["host"] == "local"
    assert said.json["sound"] is False
    plain = llmctl("doctor")
    assert plain.status == 1
    assert plain.stdout.endswith(" wrong\n")
    assert not plain.stderr
