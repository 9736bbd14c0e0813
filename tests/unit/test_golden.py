"""Every shipped profile's unit, word for word, and systemd's own opinion of them all.

After a wanted change: `LLMCTL_UPDATE_GOLDEN=1 python -m pytest tests/unit/test_golden.py`, then
read the difference as carefully as code.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import without_ring
from support.fakes import FakeHost, Output
from support.world import CONFIG_DIR, HELP, OLD_HELP

from llmctl import __version__
from llmctl.engine.apply import plan_apply
from llmctl.engine.box import Box
from llmctl.store.data import example_profiles

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
EXAMPLES = dict(example_profiles())
UPSTREAM, TQ3 = "/opt/llama.cpp/bin/llama-server", "/opt/llama.cpp-tq3/bin/llama-server"
GENERATIONS = {"new": HELP, "old": OLD_HELP}


def make_box(
    help_text: str, *, upstream: str = UPSTREAM, tq3: str = TQ3, more: str = "", home: str = ""
) -> tuple[Box, FakeHost]:
    """A box with all shipped profiles, two binaries, and models in /srv/models."""
    host = FakeHost(environ={"HOME": home} if home else None)
    config_dir = f"{host.environ()['HOME']}/.config/llmctl" if home else CONFIG_DIR
    host.put(
        f"{config_dir}/config.yaml",
        f"models_dir: /srv/models\nbinaries:\n  upstream: {upstream}\n  tq3: {tq3}\n{more}",
    )
    for name, text in EXAMPLES.items():
        host.put(f"{config_dir}/profiles/{name}.yaml", text)
    for path in (upstream, tq3):
        host.install(path, lambda _: Output(stdout=help_text))
    return Box(host), host


def golden(name: str, generation: str) -> Path:
    return (GOLDEN if generation == "new" else GOLDEN / generation) / f"{name}.service"


def stable(text: str) -> str:
    """Without what every release changes: llmctl's version, and the digest of the text with it."""
    text = text.replace(f"\nVersion={__version__}\n", "\nVersion=(llmctl's)\n")
    return re.sub(r"\nText=[0-9a-f]+\n$", "\nText=(digest)\n", text)


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_shipped_profile_renders_to_its_golden_unit(name: str, generation: str) -> None:
    box, _ = make_box(GENERATIONS[generation])
    text = stable(box.render(box.resolve(name)).text)
    path = golden(name, generation)
    if os.environ.get("LLMCTL_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


def test_there_is_no_golden_unit_without_a_profile() -> None:
    expected = {golden(name, generation) for name in EXAMPLES for generation in GENERATIONS}
    proxys = {GOLDEN / "proxy", *(GOLDEN / "proxy").iterdir()}  # core/test_proxy_unit.py has them
    assert set(GOLDEN.rglob("*")) - {GOLDEN / "old"} - proxys == expected


NASTY = """\
model: "/srv/models/my model 100% $HOME 'x' \\"y\\".gguf"
env: {A: "two words", B: "100% $HOME", C: "back\\\\slash", D: "line\\nbreak", E: "é; #"}
args: ["--reasoning-budget-message", "a \\"b\\" 'c' %n $HOME ${X} ; # é\\n\\\\", ";", "#x"]
stop_timeout: 6500ms
replicas: {max: 3}
"""


def write_units(host: FakeHost, box: Box, directory: Path) -> list[str]:
    changes = plan_apply(box)
    assert all(change.after for change in changes), changes
    for change in changes:
        (directory / change.unit).write_text(change.after or "", "utf-8")
    notes = ("/.cache/", "/llmctl/plans/")
    assert host.written == [path for path in host.written if any(one in path for one in notes)]
    return [str(directory / change.unit) for change in changes]


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("logs", ["journal", "file"])
def test_systemd_has_nothing_to_say_about_all_units_together(
    request: pytest.FixtureRequest, tmp_path: Path, generation: str, logs: str
) -> None:
    if shutil.which("systemd-analyze") is None:
        without_ring(request, "usermgr", "systemd-analyze is missing")
    server = tmp_path / "llama server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    more = f"logs: {logs}\ngroups: {{gpu: {{port: 12340, conflicts: [ollama.service]}}}}\n"
    box, host = make_box(
        GENERATIONS[generation], upstream=f"'{server}'", tq3=f"'{server}'", more=more,
        home=str(tmp_path / "home 100%"),
    )  # fmt: skip
    host.install(str(server), lambda _: Output(stdout=GENERATIONS[generation]))
    host.put(f"{box.store.profiles_dir}/nasty.yaml", NASTY)
    units = tmp_path / "units"
    units.mkdir()
    done = subprocess.run(
        ["systemd-analyze", "--user", "--recursive-errors=no", "--man=no", "verify",
         *write_units(host, box, units)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
