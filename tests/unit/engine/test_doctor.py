"""engine/doctor.py: one thing at a time is wrong with a box, and the doctor finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from support import cards as real
from support.fakes import HOME, Output
from support.patients import NOW, Patient
from support.world import CONFIG_DIR, SERVER, UNIT_DIR, Run

from llmctl.core.finding import Finding, Grade
from llmctl.engine.doctor import CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable

A = "llm-a.service"


def only(patient: Patient, name: str, *, ours: float | None = None) -> Finding:
    """The one finding of a check; all others have none."""
    found = patient.examined(ours=ours)
    told = {one.check.name: one.findings for one in found.checked if one.findings}
    assert set(told) == {name}
    (finding,) = told[name]
    assert finding.why
    return finding


def test_nothing_is_wrong_with_a_sound_box() -> None:
    found = Patient().examined()
    assert [(one.check.name, one.grade, one.findings) for one in found.checked] == [
        (check.name, Grade.OK, ()) for check in CHECKS
    ]
    assert found.is_sound


def test_nothing_is_wrong_while_a_model_runs() -> None:
    patient = Patient()
    patient.start(A)
    patient.clock.sleep(1)
    patient.listening(12340, patient.unit(A).pid)
    assert patient.examined().is_sound


def a_second_group_without_linger(patient: Patient) -> None:
    patient.host.remove("/var/lib/systemd/linger/ana")


def a_broken_profile(patient: Patient) -> None:
    patient.host.put(f"{CONFIG_DIR}/profiles/b.yaml", "ctx: many\ngroup: none")


def a_stray(patient: Patient) -> None:
    patient.host.put(f"{CONFIG_DIR}/profiles/b.yml", "model: x")


def a_build_off_the_units_path(patient: Patient) -> None:
    patient.search_path = "/opt/bin"
    patient.host.remove(SERVER)
    patient.host.install("/home/ana/bin/llama-server", patient.host.programs[SERVER])


def a_library_that_is_gone(patient: Patient) -> None:
    said = f"{SERVER}: error while loading shared libraries: libggml.so.0: cannot open shared"
    patient.starts = Output(stderr=f"{said} object file: No such file or directory\n", status=127)


def a_server_that_hangs(patient: Patient) -> None:
    patient.starts = Output(takes_s=1e9)


def a_server_that_crashes(patient: Patient) -> None:
    patient.starts = Output(stderr="Illegal instruction\n", status=132)


def a_backend_that_does_not_come_up(patient: Patient) -> None:
    patient.listing = "failed to initialize CUDA: no CUDA-capable device\n" + real.NONE


def a_driver_without_a_module(patient: Patient) -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\n"
    patient.host.install("/usr/bin/nvidia-smi", lambda _: Output(said, status=18))


def a_card_without_a_driver(patient: Patient) -> None:
    patient.host.put(
        "/sys/bus/pci/devices/0000:01:00.0/uevent", "PCI_CLASS=30000\nPCI_ID=10DE:2204"
    )


def a_render_node_that_is_locked(patient: Patient) -> None:
    patient.host.put("/dev/dri/renderD128", "")
    patient.locked.add("/dev/dri/renderD128")


def a_model_that_is_gone(patient: Patient) -> None:
    patient.host.remove("/models/a.gguf")


def a_model_that_was_cut_short(patient: Patient) -> None:
    patient.serve("a", cut=1000)


def a_stale_unit(patient: Patient) -> None:
    patient.serve("a", "batch: 512\n")


def a_unit_without_a_profile(patient: Patient) -> None:
    patient.serve("b")
    patient.apply()
    patient.host.remove(f"{CONFIG_DIR}/profiles/b.yaml")
    patient.apply("a")


def a_unit_of_somebody_else(patient: Patient) -> None:
    patient.host.put(f"{UNIT_DIR}/{A}", "[Service]\nExecStart=/bin/true\n")


def a_unit_that_systemd_has_not_read(patient: Patient) -> None:
    patient.start(A)
    patient.clock.sleep(1)
    patient.shows(A, replace(patient.unit(A), needs_reload=True))


def a_model_that_failed(patient: Patient) -> None:
    patient.goes(A, Run(crash_s=0.1))
    patient.start(A)
    patient.clock.sleep(1)


def a_stranger_on_the_port(patient: Patient) -> None:
    patient.listening(12340, 77)
    patient.host.put("/proc/77/cmdline", "ollama\0serve\0")
    patient.host.put("/proc/77/cgroup", "0::/user.slice/ollama.service\n")


def a_tailnet_that_is_down(patient: Patient) -> None:
    patient.config("proxy: {listen: ['127.0.0.1:1234', tailscale], allow_keyless: true}")


def a_full_disk(patient: Patient) -> None:
    patient.rows[f"{CONFIG_DIR}"] = "/dev/sdb 1000000 999999 1 100% /home\n"


def a_place_that_is_read_only(patient: Patient) -> None:
    patient.locked.add(CONFIG_DIR)


def a_clock_without_a_battery(patient: Patient) -> None:
    patient.date = "86400\n"


@pytest.mark.parametrize(
    ("spoil", "check", "what", "do"),
    [
        (a_second_group_without_linger, "linger", "ana does not linger",
         "sudo loginctl enable-linger ana"),
        (a_broken_profile, "profiles", "b.yaml: ctx: expected", "llmctl show b"),
        (a_stray, "profiles", "b.yml is not read",
         f"mv {CONFIG_DIR}/profiles/b.yml {CONFIG_DIR}/profiles/b.yaml"),
        (a_library_that_is_gone, "binaries", "the binary's library libggml.so.0 is missing",
         f"ldd {SERVER}"),
        (a_server_that_hangs, "binaries", "did not end within 20 s", f"{SERVER} --version"),
        (a_server_that_crashes, "binaries", "ends with status 132: Illegal instruction",
         f"{SERVER} --version"),
        (a_backend_that_does_not_come_up, "gpu", "failed to initialize CUDA", "nvidia-smi"),
        (a_driver_without_a_module, "gpu", "Driver/library version mismatch", "sudo reboot"),
        (a_card_without_a_driver, "gpu", "the NVIDIA card at 0000:01:00.0 has no driver",
         "install NVIDIA's driver"),
        (a_render_node_that_is_locked, "gpu", "ana may not use /dev/dri/renderD128",
         "sudo usermod -aG render,video ana"),
        (a_model_that_is_gone, "models", "a: its file /models/a.gguf does not exist",
         f"llmctl scan {HOME}/models"),
        (a_model_that_was_cut_short, "models", "/models/a.gguf is cut short: 1000 bytes",
         "llmctl scan /models"),
        (a_stale_unit, "units", f"{UNIT_DIR}/{A} is stale", "llmctl apply"),
        (a_unit_without_a_profile, "units", f"{UNIT_DIR}/llm-b.service has no profile any more",
         "llmctl apply --prune"),
        (a_unit_of_somebody_else, "units", "was not written by llmctl", "rename the profile"),
        (a_unit_that_systemd_has_not_read, "units", f"has not read the present text of {A}",
         "systemctl --user daemon-reload"),
        (a_model_that_failed, "running", "a: failed: exit-code", "llmctl logs a"),
        (a_stranger_on_the_port, "ports",
         "port 12340 is taken by pid 77, ollama serve in ollama.service",
         "systemctl --user stop ollama.service"),
        (a_tailnet_that_is_down, "tailnet", "box has no address in a tailnet", "sudo tailscale up"),
        (a_full_disk, "disk", "/home has 0 MiB left of 977 MiB", "du -xh --max-depth=2 /home"),
        (a_place_that_is_read_only, "disk", f"{CONFIG_DIR} cannot be written to", "ls -ld"),
        (a_clock_without_a_battery, "clock", "its clock is years behind", "timedatectl"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_and_nothing_else(
    spoil: Callable[[Patient], None], check: str, what: str, do: str
) -> None:
    patient = Patient()
    spoil(patient)
    finding = only(patient, check)
    assert what in finding.what
    assert do in finding.do
    assert finding.grade is Grade.WRONG
    assert not patient.examined().is_sound


def test_two_models_of_a_group_at_once_are_a_fault() -> None:
    patient = Patient()
    patient.serve("b")
    patient.apply()
    patient.start(A)
    patient.shows("llm-b.service", replace(patient.unit(A), unit="llm-b.service"))
    patient.clock.sleep(1)
    told = [one for one in patient.check("running").findings if one.grade is Grade.WRONG]
    assert [one.what for one in told] == ["more than one is active: a, b"]
    assert told[0].do == "llmctl off --group gpu, then llmctl apply"


def test_an_edited_unit_is_advice() -> None:
    patient = Patient()
    text = patient.host.text(f"{UNIT_DIR}/{A}")
    patient.host.put(f"{UNIT_DIR}/{A}", text.replace("RestartSec=5", "RestartSec=6"))
    finding = only(patient, "units")
    assert finding.grade is Grade.ADVICE
    assert finding.what == f"{UNIT_DIR}/{A} was edited by hand"
    assert patient.examined().is_sound


def test_a_build_that_no_profile_uses_is_advice() -> None:
    patient = Patient()
    patient.config(f"binaries: {{upstream: {SERVER}, tq3: /opt/tq3}}")
    patient.apply()
    finding = only(patient, "binaries")
    assert (finding.grade, finding.do) == (
        Grade.ADVICE, "Say where it is: binaries: {tq3: /path/to/llama-server}",
    )  # fmt: skip


def test_a_missing_build_is_named_once_although_its_unit_cannot_be_rendered() -> None:
    patient = Patient()
    patient.host.remove(SERVER)
    found = {one.check.name: one.grade for one in patient.examined().checked}
    assert found["binaries"] is Grade.WRONG
    assert found["gpu"] is found["models"] is Grade.OK


def test_a_build_that_only_the_shell_finds() -> None:
    patient = Patient()
    patient.search_path = "/bin"
    patient.host.remove(SERVER)
    patient.config("binaries: {upstream: far-server}")
    patient.host.install("/usr/local/bin/far-server", patient.host.programs[SERVER])
    assert patient.check("path").grade is Grade.OK  # where every unit looks


def test_a_broken_configuration_hides_only_what_depends_on_it() -> None:
    patient = Patient()
    patient.config("groups: 7")
    found = {one.check.name: one for one in patient.examined().checked}
    assert found["config"].grade is Grade.WRONG
    assert found["units"].behind == ("config",)
    assert {name for name, one in found.items() if one.grade is Grade.OK} == {
        "manager", "linger", "disk", "clock",
    }  # fmt: skip


def test_a_silent_user_manager_hides_only_what_depends_on_it() -> None:
    patient = Patient()
    for verb in ("show-environment", "list-units", "show"):
        patient.refuses[verb] = "Failed to connect to bus: No medium found"
    found = {one.check.name: one for one in patient.examined().checked}
    assert found["manager"].findings[0].do.endswith("sudo loginctl enable-linger ana")
    hidden = {name for name, one in found.items() if one.behind}
    assert hidden == {"path", "units", "running", "sleep", "ports", "proxy"}
    assert found["models"].grade is Grade.OK


def test_a_check_that_gets_no_answer_is_unknown_and_the_others_go_on() -> None:
    patient = Patient()
    patient.host.remove("/usr/bin/df")
    found = patient.examined()
    (finding,) = patient.check("disk").findings
    assert finding.grade is Grade.UNKNOWN
    assert finding.what == "df cannot be run: No such file or directory."
    assert found.is_sound


@pytest.mark.parametrize(
    ("skew", "said"),
    [(-3600, "its clock is 3600 s behind this machine's"), (31, "31 s ahead of this machine's")],
)
def test_a_clock_is_held_against_the_one_who_asks(skew: int, said: str) -> None:
    patient = Patient()
    assert said in only(patient, "clock", ours=NOW - skew).what
    assert patient.check("clock", ours=NOW - 29).grade is Grade.OK


def test_a_clock_that_nobody_sets_is_advice() -> None:
    patient = Patient()
    patient.host.install("/usr/bin/timedatectl", lambda _: Output(stdout="no\n"))
    assert only(patient, "clock").grade is Grade.ADVICE


@pytest.mark.parametrize(
    ("listen", "what", "do"),
    [
        ("100.64.0.9:1234", "the tailnet's is 100.64.0.7", "correct proxy.listen"),
        ("100.64.0.7:1234", "", ""),
        ("tailscale", "", ""),
    ],
)
def test_the_tailnets_address_is_held_against_the_configuration(
    listen: str, what: str, do: str
) -> None:
    patient = Patient()
    patient.config(f"proxy: {{listen: ['{listen}'], allow_keyless: true}}")
    trie = "Local:\n     |-- 100.64.0.7\n        /32 host LOCAL\n"
    patient.host.put("/proc/net/fib_trie", trie)
    if what:
        finding = only(patient, "tailnet")
        assert what in finding.what
        assert do in finding.do
    else:
        assert patient.check("tailnet").grade is Grade.OK


def test_libraries_are_looked_for_as_units_do() -> None:
    patient = Patient()
    patient.host._environ["LD_LIBRARY_PATH"] = "/opt/lib"
    patient.examined()
    assert patient.host.called("env", "-u", "LD_LIBRARY_PATH", SERVER, "--version")


def test_an_overlong_disk_line_is_read() -> None:
    patient = Patient()
    patient.rows[CONFIG_DIR] = "my nas:/a b 100000000 99000000 1000000 99% /mnt/a b\n"
    finding = only(patient, "disk")
    assert finding.grade is Grade.ADVICE
    assert finding.what == "/mnt/a b has 977 MiB left of 95.4 GiB"
