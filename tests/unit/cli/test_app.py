"""cli/: what people type and what they read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llmctl import __version__
from llmctl.cli.app import COMMANDS
from llmctl.core.profile import json_schema

if TYPE_CHECKING:
    from support.commandline import CommandLine


def test_the_version_is_told(llmctl: CommandLine) -> None:
    assert llmctl("--version").stdout == f"llmctl {__version__}\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command(llmctl: CommandLine, option: str) -> None:
    said = llmctl(option)
    assert said.status == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in said.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help(llmctl: CommandLine, command: str, option: str) -> None:
    said = llmctl(command, option)
    assert (said.status, said.stderr) == (0, "")
    assert f"llmctl {command}" in said.stdout


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["switch"], ["switch", "a", "b"], ["status", "--nonsense"], ["logs", "-n", "x"],
     ["switch", "a", "--timeout", "0"], ["schema", "nonsense"], ["logs", "-n", "-1"]],
)  # fmt: skip
def test_a_command_that_cannot_mean_anything_is_status_2(
    llmctl: CommandLine, words: list[str]
) -> None:
    said = llmctl(*words)
    assert (said.status, said.stdout) == (2, "")
    assert said.stderr


# Errors


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["switch", "nobody"], 3),
        (["show", "nobody"], 3),
        (["render", "nobody"], 3),
        (["apply", "nobody"], 3),
        (["logs", "nobody"], 3),
        (["enable", "nobody"], 3),
        (["disable", "nobody"], 3),
        (["logs"], 2),
        (["off", "--group", "npu"], 2),
        (["status", "--host", "ancalagon"], 5),
    ],
)
def test_an_error_is_told_on_stderr_with_its_status(
    llmctl: CommandLine, words: list[str], status: int
) -> None:
    said = llmctl(*words)
    assert (said.status, said.stdout) == (status, "")
    assert said.stderr.startswith("error: ")
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("words", [["switch", "nobody"], ["show", "nobody"]])
def test_with_json_an_error_is_the_answer(llmctl: CommandLine, words: list[str]) -> None:
    said = llmctl(*words, "--json")
    error = said.json["error"]
    assert set(error) >= {"message", "hint", "status"}
    assert error["status"] == said.status == 3


def test_an_error_has_its_hint(llmctl: CommandLine) -> None:
    assert "\nhint: Did you mean coder?\n" in llmctl("switch", "codr").stderr


def test_the_box_may_come_from_the_environment(
    llmctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCTL_HOST", "ancalagon")
    said = llmctl("status")
    assert said.status == 5
    assert "ancalagon" in said.stderr


def test_a_manager_that_does_not_run_is_told(llmctl: CommandLine) -> None:
    llmctl.program("systemctl", "echo 'Failed to connect to bus: No medium found' >&2; exit 1")
    said = llmctl("status")
    assert said.status == 5
    assert "hint: Keep it running without a login: sudo loginctl enable-linger ana" in said.stderr


# Answers


def test_status_of_an_idle_box(llmctl: CommandLine) -> None:
    assert llmctl("status").stdout.splitlines()[1].split()[:3] == ["-", "gpu", "stopped"]


def test_status_as_json(llmctl: CommandLine) -> None:
    assert llmctl("status", "--json").json == {
        "host": "local",
        "groups": [{"name": "gpu", "active": None, "state": "stopped", "faults": []}],
        "instances": [],
        "proxy": None,
        "problems": [],
    }


def test_a_broken_profile_is_warned_of(llmctl: CommandLine) -> None:
    llmctl.profile("broken", "ctx: nonsense")
    said = llmctl("status")
    assert said.status == 0
    assert "warning: " in said.stderr
    assert "broken.yaml: ctx: expected" in said.stderr


def test_list_tells_every_profile(llmctl: CommandLine) -> None:
    rows = [row.split() for row in llmctl("list").stdout.splitlines()]
    assert rows[0] == ["NAME", "MODEL", "QUANT", "SIZE", "CTX", "GROUP", "STATE", "UNIT"]
    assert [row[0] for row in rows[1:]] == ["coder", "gemma4"]


def test_list_as_json(llmctl: CommandLine) -> None:
    assert llmctl("list", "--json").json[0] == {
        "name": "coder",
        "model": "coder-Q4_K_M.gguf",
        "quant": "Q4_K_M",
        "size_bytes": 4000,
        "ctx": 8192,
        "group": "gpu",
        "aliases": [],
        "state": "stopped",
        "stale": True,
        "unit": "missing",
        "problems": [],
    }


def test_list_keeps_a_broken_profile(llmctl: CommandLine) -> None:
    llmctl.profile("broken", "ctx: nonsense")
    one = next(one for one in llmctl("list", "--json").json if one["name"] == "broken")
    assert (one["unit"], one["model"]) == ("broken", None)
    assert one["problems"]


def test_list_without_profiles(llmctl: CommandLine) -> None:
    for path in (llmctl.config_dir / "profiles").iterdir():
        path.unlink()
    assert llmctl("list", "--json").json == []


def test_show_tells_each_value_and_where_it_is_from(llmctl: CommandLine) -> None:
    values = llmctl("show", "coder", "--json").json["values"]
    assert values["ctx"] == {"value": 8192, "from": "profile"}
    assert values["parallel"] == {"value": 1, "from": "default"}
    assert values["port"] == {"value": 12340, "from": "group gpu"}
    assert values["gpu_layers"]["from"].startswith("auto: ")


def test_show_for_people(llmctl: CommandLine) -> None:
    said = llmctl("show", "coder").stdout
    assert "url:  http://127.0.0.1:12340" in said
    assert f"unit: {llmctl.unit_dir}/llm-coder.service" in said


def test_render_prints_the_unit_and_installs_nothing(llmctl: CommandLine) -> None:
    assert "\nExecStart=" in llmctl("render", "coder").stdout
    assert not llmctl.unit_dir.exists()


def test_what_render_prints_is_what_apply_installs(llmctl: CommandLine) -> None:
    text = llmctl("render", "coder").stdout
    llmctl("apply")
    assert (llmctl.unit_dir / "llm-coder.service").read_text() == text


@pytest.mark.parametrize("which", [[], ["profile"]])
def test_the_schema_is_json(llmctl: CommandLine, which: list[str]) -> None:
    assert llmctl("schema", *which).json == json.loads(json.dumps(json_schema()))


def test_there_is_a_schema_of_the_configuration(llmctl: CommandLine) -> None:
    assert "models_dir" in llmctl("schema", "config").stdout


# apply


def test_apply_installs_and_tells(llmctl: CommandLine) -> None:
    said = llmctl("apply")
    assert said.status == 0
    assert f"created {llmctl.unit_dir}/llm-coder.service\n" in said.stdout


def test_apply_again_has_nothing_to_do(llmctl: CommandLine) -> None:
    llmctl("apply")
    assert llmctl("apply").stdout == "3 units are current\n"


def test_check_changes_nothing_and_exits_1(llmctl: CommandLine) -> None:
    said = llmctl("apply", "--check")
    assert said.status == 1
    assert f"missing {llmctl.unit_dir}/llm-coder.service\n" in said.stdout
    assert not llmctl.unit_dir.exists()


def test_check_of_what_is_current_exits_0(llmctl: CommandLine) -> None:
    llmctl("apply")
    assert llmctl("apply", "--check").status == 0


def test_apply_shows_what_changes_and_not_the_digests(llmctl: CommandLine) -> None:
    llmctl("apply")
    llmctl.profile("coder", "stop_timeout: 2m\nctx: 8192\nkv: q8_0\n")
    said = llmctl("apply").stdout
    assert "-TimeoutStopSec=30s" in said
    assert "+TimeoutStopSec=2m" in said
    assert "Source=" not in said
    assert "LLMCTL_PROCESS" not in said


def test_a_foreign_unit_is_an_error_of_apply_and_stays(llmctl: CommandLine) -> None:
    path = llmctl.unit_dir / "llm-coder.service"
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/theirs\n")
    said = llmctl("apply")
    assert said.status == 3
    assert f"{path} was not written by llmctl" in said.stderr
    assert path.read_text() == "[Service]\nExecStart=/theirs\n"
    assert (llmctl.unit_dir / "llm-gemma4.service").exists()


def test_an_edited_unit_is_warned_of(llmctl: CommandLine) -> None:
    llmctl("apply")
    path = llmctl.unit_dir / "llm-coder.service"
    path.write_text(path.read_text().replace("RestartSec=5", "RestartSec=9"))
    assert "was edited by hand and is left as it is" in llmctl("apply").stderr


def test_an_edited_orphan_is_left_for_its_author_to_remove(llmctl: CommandLine) -> None:
    llmctl("apply")
    path = llmctl.unit_dir / "llm-coder.service"
    path.write_text(path.read_text().replace("RestartSec=5", "RestartSec=9"))
    (llmctl.config_dir / "profiles/coder.yaml").unlink()
    assert f"remove it yourself: rm {path}" in llmctl("apply", "--prune").stderr
    assert path.exists()


def test_an_orphan_is_warned_of_and_pruned_when_asked(llmctl: CommandLine) -> None:
    llmctl("apply")
    (llmctl.config_dir / "profiles/coder.yaml").unlink()
    assert "`llmctl apply --prune` removes it" in llmctl("apply").stderr
    llmctl("apply", "--prune")
    assert not (llmctl.unit_dir / "llm-coder.service").exists()


def test_apply_as_json(llmctl: CommandLine) -> None:
    llmctl.profile("broken", "ctx: nonsense")
    said = llmctl("apply", "--json")
    changes = {one["unit"]: one for one in said.json}
    assert said.status == 3
    assert changes["llm-coder.service"] == {
        "unit": "llm-coder.service", "change": "create", "problems": [],
    }  # fmt: skip
    assert changes["llm-broken.service"]["problems"]


# switch, off, enable, logs


def test_a_dry_run_prints_the_steps(llmctl: CommandLine) -> None:
    llmctl("apply")
    said = llmctl("switch", "coder", "--dry-run")
    assert said.stdout == "start llm-coder.service\nwait until coder answers\n"


def test_a_dry_run_as_json(llmctl: CommandLine) -> None:
    llmctl("apply")
    assert llmctl("switch", "coder", "--dry-run", "--json").json == {
        "profile": "coder",
        "previous": None,
        "steps": ["start llm-coder.service", "wait until coder answers"],
    }


def test_without_waiting_the_url_is_told(llmctl: CommandLine) -> None:
    said = llmctl("switch", "coder", "--no-wait")
    assert said.stdout == "coder is starting: http://127.0.0.1:12340\n"
    assert "start llm-coder.service" in said.stderr


def test_without_waiting_as_json(llmctl: CommandLine) -> None:
    said = llmctl("switch", "coder", "--no-wait", "--json")
    assert said.json == {
        "profile": "coder", "previous": None, "state": "loading", "ready_s": None,
        "url": "http://127.0.0.1:12340",
    }  # fmt: skip
    assert said.stderr == ""


def test_off_when_nothing_runs(llmctl: CommandLine) -> None:
    assert llmctl("off").stdout == "nothing was running\n"
    assert llmctl("off", "--json").json == {"stopped": []}


def test_enable_says_that_linger_is_missing(llmctl: CommandLine) -> None:
    said = llmctl("enable", "coder")
    assert said.stdout == "coder starts at boot\n"
    assert "sudo loginctl enable-linger ana" in said.stderr


def test_enable_as_json(llmctl: CommandLine) -> None:
    said = llmctl("enable", "coder", "--json")
    assert said.json == {"enabled": "coder", "disabled": [], "linger": False}


def test_disable(llmctl: CommandLine) -> None:
    assert llmctl("disable", "coder").stdout == "coder does not start at boot\n"
    assert llmctl("disable", "coder", "--json").json == {"disabled": ["coder"]}


def test_logs_of_a_model(llmctl: CommandLine) -> None:
    llmctl.program("journalctl", "echo one; echo two")
    assert llmctl("logs", "coder").stdout == "one\ntwo\n"


def test_no_logs_are_explained(llmctl: CommandLine) -> None:
    said = llmctl("logs", "coder")
    assert (said.status, said.stdout) == (0, "")
    assert "has written nothing that can be read" in said.stderr


@pytest.mark.parametrize(("number", "lines"), [("2", ["b", "c"]), ("0", [])])
def test_as_many_lines_of_a_log_file_as_asked_for(
    llmctl: CommandLine, number: str, lines: list[str]
) -> None:
    (llmctl.config_dir / "config.yaml").write_text("logs: file")
    path = llmctl.home / ".local/state/llmctl/logs/coder.log"
    path.parent.mkdir(parents=True)
    path.write_text("a\nb\nc\n")
    assert llmctl("logs", "coder", "-n", number).stdout.splitlines() == lines


def test_lines_are_followed(llmctl: CommandLine) -> None:
    llmctl.program("journalctl", 'case "$*" in *--follow*) echo more;; esac')
    assert llmctl("logs", "coder", "--follow").stdout == "more\n"


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_with_v_every_command_on_the_box_is_told(llmctl: CommandLine, option: str) -> None:
    said = llmctl("apply", option)
    assert "+ systemctl --user daemon-reload" in said.stderr
    assert f"+ write {llmctl.unit_dir}/llm-coder.service" in said.stderr


def test_without_v_apply_speaks_on_stdout_alone(llmctl: CommandLine) -> None:
    said = llmctl("apply")
    assert said.stdout
    assert said.stderr == ""


@pytest.mark.parametrize("words", [["apply"], ["enable", "coder"]])
def test_with_json_no_step_is_told(llmctl: CommandLine, words: list[str]) -> None:
    assert "write " not in llmctl(*words, "--json").stderr


def test_a_models_path_with_brackets_is_text_and_no_markup(llmctl: CommandLine) -> None:
    path = llmctl.config_dir / "profiles/coder.yaml"
    path.write_text("model: /models/[abliterated]/[/bold]x.gguf\n")
    assert "/models/[abliterated]/[/bold]x.gguf" in llmctl("show", "coder").stdout
