"""cli/completion.py: what the shell completes, asked as bash asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmctl.host.local import LocalHost
from llmctl.store.known_boxes import Known, KnownBoxes

if TYPE_CHECKING:
    from support.commandline import CommandLine


@pytest.fixture
def tab(llmctl: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Tab:
    KnownBoxes(LocalHost()).keep("big", Known(("mistral", "magistral", "qwen")))
    KnownBoxes(LocalHost()).keep("small", Known(("mistral", "phi")))
    return Tab(llmctl, monkeypatch)


class Tab:
    """A bash in which Tab is pressed."""

    def __init__(self, llmctl: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.llmctl = llmctl
        self._patch = monkeypatch

    def __call__(self, line: str) -> list[str]:
        words = line.split()
        at = len(words) if line.endswith(" ") else len(words) - 1
        for name, value in {
            "_LLMCTL_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(at),
        }.items():
            self._patch.setenv(name, value)
        said = self.llmctl()
        assert said.stderr == ""
        self._patch.delenv("_LLMCTL_COMPLETE")
        return said.stdout.split()


def test_profiles_are_those_of_this_machine(tab: Tab) -> None:
    assert tab("llmctl switch ") == ["coder", "gemma4"]
    assert tab("llmctl switch c") == ["coder"]


def test_behind_host_they_are_those_of_the_box(tab: Tab) -> None:
    assert tab("llmctl switch --host big m") == ["mistral", "magistral"]
    assert tab("llmctl switch --host nowhere ") == []


def test_the_variable_names_a_box_as_well(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_HOST", "big")
    assert tab("llmctl switch q") == ["qwen"]


def test_boxes_are_completed(tab: Tab) -> None:
    for name in ("big", "bag", "small"):
        tab.llmctl("host", "add", name, f"llm@{name}")
    assert tab("llmctl switch --host b") == ["big", "bag"]
    assert tab("llmctl status --host big --host s") == ["small"]
    assert tab("llmctl host remove b") == ["big", "bag"]


def test_a_box_that_is_removed_is_forgotten(tab: Tab) -> None:
    tab.llmctl("host", "add", "big", "llm@big")
    tab.llmctl("host", "remove", "big")
    assert tab("llmctl switch --host big ") == []


def test_a_broken_file_completes_nothing(tab: Tab) -> None:
    (tab.llmctl.config_dir / "hosts.yaml").write_text("boxes: {a: {}}\n")
    assert tab("llmctl switch --host ") == []
