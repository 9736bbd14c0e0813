"""proxy/keeper.py: what of the files was right last stays in force while they are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.commandline import CommandLine

from llmctl.core.state import State
from llmctl.engine.box import Box
from llmctl.engine.status import Instance
from llmctl.errors import ProfileError
from llmctl.host.local import LocalHost
from llmctl.proxy.contexts import Contexts
from llmctl.proxy.keeper import LocalKeeper

if TYPE_CHECKING:
    from pathlib import Path

SHOW = """\
case "$*" in
*list-units*) echo "llm-{name}.service loaded {active} running Model" ;;
*show*) printf '%s\\n' Id=llm-{name}.service LoadState=loaded ActiveState={active} \\
    SubState={sub} MainPID={pid} Job={job} ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    made = CommandLine(tmp_path, monkeypatch)
    made.profile("a", "aliases: [nick]\nctx: 4096\n")
    made.profile("b")
    return made


def configure(home: CommandLine, text: str) -> None:
    (home.config_dir / "config.yaml").write_text(text)


def names(keeper: LocalKeeper) -> list[str]:
    return [one.name for one in keeper.look().served]


def test_a_broken_configuration_leaves_the_last_one_in_force(home: CommandLine) -> None:
    keeper = LocalKeeper()
    configure(home, "proxy: {max_queue: 7}\ngroups: {gpu: {port: 15000}}\n")
    assert keeper.look().settings.max_queue == 7
    configure(home, "proxy: {max_queue: none}\n")
    seen = keeper.look()
    assert seen.settings.max_queue == 7
    assert {one.port for one in seen.served} == {15000}
    assert "proxy.max_queue" in seen.problems[0]
    configure(home, "proxy: {max_queue: 8}\n")
    seen = keeper.look()
    assert (seen.settings.max_queue, seen.problems) == (8, ())


def test_one_that_was_never_right_is_an_error(home: CommandLine) -> None:
    configure(home, "proxy: [\n")
    with pytest.raises(ProfileError, match=r"config\.yaml"):
        LocalKeeper().look()


def test_a_broken_profile_leaves_its_last_entry(home: CommandLine) -> None:
    keeper = LocalKeeper()
    before = keeper.look().served
    (home.config_dir / "profiles/a.yaml").write_text("model: [\n")
    seen = keeper.look()
    assert seen.served == before
    assert "a.yaml" in seen.problems[0]


@pytest.mark.parametrize(
    ("keys", "ctx"),
    [
        ("ctx: 131072\nparallel: 4\n", 32768),
        ("ctx: 131072\nparallel: 4\nargs: [-kvu]\n", 131072),
        ("ctx: 131072\n", 131072),
        ("ctx: auto\nparallel: 2\n", None),
    ],
)
def test_a_model_has_the_context_that_one_request_may_use(
    home: CommandLine, keys: str, ctx: int | None
) -> None:
    home.profile("a", keys)
    assert {one.name: one.ctx for one in LocalKeeper().look().served}["a"] == ctx


def test_a_planned_context_is_that_of_the_installed_unit(home: CommandLine) -> None:
    home.profile("a", "ctx: auto\nparallel: 2\n")
    unit = home.unit_dir / "llm-a.service"
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text("ExecStart=/bin/llama-server \\\n  -c 8192 -ngl 3 \\\n  -np 4\n")
    assert LocalKeeper().look().served[0].ctx == 4096


def test_a_server_knows_better_also_after_it_has_stopped(home: CommandLine) -> None:
    """A slot does not go beyond what the model was trained for."""

    def seen(pid: int, ctx: int | None) -> Instance:
        return Instance("a", "llm-a.service", "gpu", State.READY, 1, pid, None, None, ctx=ctx)

    contexts = Contexts()

    def ctx(instance: Instance | None) -> int | None:
        box = Box(LocalHost())
        return contexts.of(box, box.store.profile("a"), instance)

    assert ctx(None) == 4096
    assert ctx(seen(7, 1024)) == 1024
    assert ctx(None) == 1024
    home.profile("a", "ctx: 8192\n")
    assert ctx(seen(7, 1024)) == 1024  # it runs with what was written before
    assert ctx(None) == 8192
    assert ctx(seen(8, None)) == 8192  # an old build, which does not say


def test_a_profile_that_was_never_right_is_not_served(home: CommandLine) -> None:
    (home.config_dir / "profiles/a.yaml").write_text("model: [\n")
    assert names(LocalKeeper()) == ["b"]


def test_a_profile_that_is_gone_is_gone(home: CommandLine) -> None:
    keeper = LocalKeeper()
    assert names(keeper) == ["a", "b"]
    (home.config_dir / "profiles/a.yaml").unlink()
    assert names(keeper) == ["b"]


def shows(home: CommandLine, active: str, sub: str, *, pid: int, job: str = "") -> None:
    home.program("systemctl", SHOW.format(name="a", active=active, sub=sub, pid=pid, job=job))


@pytest.mark.parametrize(
    ("active", "sub", "job", "stopping", "coming"),
    [
        ("deactivating", "stop-sigterm", "7", frozenset({"a"}), {}),
        ("active", "running", "7", frozenset({"a"}), {}),  # a job of an active unit ends it
        ("active", "running", "", frozenset(), {"gpu": "a"}),
        ("activating", "auto-restart", "", frozenset(), {}),
    ],
)
def test_a_model_that_was_told_to_stop_is_known(
    home: CommandLine, active: str, sub: str, job: str, stopping: frozenset[str],
    coming: dict[str, str],
) -> None:  # fmt: skip
    configure(home, "groups: {gpu: {port: 2999}}\n")
    shows(home, active, sub, pid=2**22 + 1, job=job)
    seen = LocalKeeper().look()
    assert (seen.stopping, seen.coming, seen.ready) == (stopping, coming, {})


def test_a_broken_profile_stays_in_its_group(home: CommandLine) -> None:
    home.profile("a", "group: none\nport: 2998\n")
    keeper = LocalKeeper()
    keeper.look()
    (home.config_dir / "profiles/a.yaml").write_text("model: [\n")
    shows(home, "active", "running", pid=2**22 + 1)
    seen = keeper.look()
    assert seen.coming == {"none:a": "a"}


def test_where_to_listen_is_told(home: CommandLine) -> None:
    configure(home, "proxy: {listen: ['127.0.0.1:4444', '::1']}\n")
    assert [str(one) for one in LocalKeeper().addresses()] == ["127.0.0.1:4444", "[::1]:1234"]


def modes(keeper: LocalKeeper) -> dict[str, str]:
    return {one.name: one.guard.mode for one in keeper.look().served}


def test_the_guard_is_the_boxes_but_for_what_a_profile_says(home: CommandLine) -> None:
    keeper = LocalKeeper()
    assert modes(keeper) == {"a": "on", "b": "on"}
    configure(home, "guard: {mode: log, retries: 1}\n")
    home.profile("b", "guard: {mode: 'off'}\n")
    assert modes(keeper) == {"a": "log", "b": "off"}
    assert {one.guard.retries for one in keeper.look().served} == {1}


def test_a_guard_that_is_broken_stays_as_it_was(home: CommandLine) -> None:
    keeper = LocalKeeper()
    configure(home, "guard: {mode: log}\n")
    home.profile("b", "guard: {mode: 'off'}\n")
    assert modes(keeper) == {"a": "log", "b": "off"}
    configure(home, "guard: {mode: maybe}\n")
    home.profile("b", "guard: {mode: maybe}\n")
    assert modes(keeper) == {"a": "log", "b": "off"}
