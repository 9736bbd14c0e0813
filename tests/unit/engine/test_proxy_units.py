"""engine/proxy_units.py, proxy_setup.py, proxy_status.py: the proxy on a box in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from support.fakes import HOME, Output
from support.world import UNIT_DIR, World, http

from llmctl.core.progress import Event, Waiting
from llmctl.core.proxy_unit import SERVICE, SOCKET, UNITS, listened
from llmctl.core.state import UnitStatus
from llmctl.engine.proxy_setup import follow, install, uninstall
from llmctl.engine.proxy_status import proxy_status
from llmctl.engine.proxy_units import addresses, proxy_changes
from llmctl.errors import HostError, ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

PYTHON = "/opt/llmctl/bin/python"
TAILNET = "100.101.102.103"


def make_world(config: str = "") -> World:
    world = World()
    world.config(config)
    world.host.install("/usr/bin/env", lambda _: Output())

    return world


def installed(config: str = "") -> World:
    world = make_world(config)
    set_up(world)
    world.host.calls.clear()
    return world


def set_up(world: World, *, overwrite: bool = False) -> dict[str, str]:
    done = install(world.box, PYTHON, clock=world.clock, report=lambda _: None, overwrite=overwrite)
    return {one.unit: one.kind.value for one in done.changes}


def text(world: World, unit: str) -> str:
    return world.host.text(f"{UNIT_DIR}/{unit}")


def edit(world: World, unit: str) -> None:
    world.host.put(f"{UNIT_DIR}/{unit}", text(world, unit).replace("[Unit]", "[Unit]\n# mine"))


# ------------------------------------------------------------------------------- addresses


def listens(world: World) -> list[str]:
    return [str(one) for one in addresses(world.box)]


TAILSCALE = "proxy: {listen: ['127.0.0.1:1234', tailscale], allow_keyless: true}\n"


def test_tailscale_is_asked_for_its_address() -> None:
    world = make_world(TAILSCALE)
    world.host.install("/usr/bin/tailscale", lambda _: Output(stdout=f"{TAILNET}\n"))
    assert listens(world) == ["127.0.0.1:1234", f"{TAILNET}:1234"]
    assert world.host.called("tailscale", "ip", "-4") or world.host.called("ip", "-4")


def interfaces(world: World) -> None:
    world.host.put("/proc/net/fib_trie", f"     |-- {TAILNET}\n        /32 host LOCAL\n")


@pytest.mark.parametrize(
    "tailscale", [None, Output(stderr="no current Tailscale IPs", status=1), Output(takes_s=1e9),
                  Output(stdout="garbage\n")],
)  # fmt: skip
def test_without_its_word_an_interface_tells(tailscale: Output | None) -> None:
    world = make_world(TAILSCALE)
    interfaces(world)
    if tailscale is not None:
        world.host.install("/usr/bin/tailscale", lambda _: tailscale)
    assert listens(world)[1] == f"{TAILNET}:1234"


def test_while_tailscale_is_down_the_installed_address_stays() -> None:
    world = make_world(TAILSCALE)
    interfaces(world)
    set_up(world)
    world.host.remove("/proc/net/fib_trie")
    assert listens(world)[1] == f"{TAILNET}:1234"
    assert [one.kind.value for one in proxy_changes(world.box, PYTHON)] == ["current", "current"]


def test_a_machine_without_a_tailnet_is_told_so() -> None:
    with pytest.raises(ProfileError, match="box has no address in a tailnet") as told:
        listens(make_world(TAILSCALE))
    assert "tailscale up" in str(told.value.hint)


def test_an_address_that_is_meant_twice_is_listened_on_once() -> None:
    world = make_world(f"proxy: {{listen: ['{TAILNET}:1234', tailscale], allow_keyless: true}}\n")
    interfaces(world)
    assert listens(world) == [f"{TAILNET}:1234"]


def test_without_keys_nothing_but_loopback_is_installed() -> None:
    world = make_world("proxy: {listen: ['0.0.0.0:1234']}\n")
    with pytest.raises(ProfileError, match=r"0\.0\.0\.0:1234 can be reached") as told:
        set_up(world)
    assert "api_keys" in str(told.value.hint)
    assert not world.host.paths(UNIT_DIR)


# --------------------------------------------------------------------------------- install


def test_installing_writes_starts_and_enables() -> None:
    world = make_world()
    assert set_up(world) == {SOCKET: "create", SERVICE: "create"}
    assert world.unit(SOCKET).is_up
    assert world.unit(SERVICE).is_up
    assert world.unit(SOCKET).enabled
    assert world.host.mode(f"{UNIT_DIR}/{SERVICE}") == 0o600


def test_a_second_time_nothing_changes() -> None:
    world = installed()
    before = {unit: text(world, unit) for unit in UNITS}
    events = list(world.events)
    assert set_up(world) == {SOCKET: "current", SERVICE: "current"}
    assert {unit: text(world, unit) for unit in UNITS} == before
    assert world.events == events
    assert not world.host.called("try-restart")


@pytest.mark.parametrize("unit", UNITS)
def test_somebody_elses_unit_is_left_alone(unit: str) -> None:
    world = make_world()
    world.host.put(f"{UNIT_DIR}/{unit}", "[Unit]\n")
    with pytest.raises(ProfileError, match=f"{unit} was not written by llmctl"):
        set_up(world)
    assert world.host.paths(UNIT_DIR) == (f"{UNIT_DIR}/{unit}",)


def test_an_edited_unit_is_used_as_it_is_until_it_is_overwritten() -> None:
    world = installed()
    edit(world, SERVICE)
    assert set_up(world)[SERVICE] == "edited"
    assert "# mine" in text(world, SERVICE)
    assert set_up(world, overwrite=True)[SERVICE] == "update"
    assert "# mine" not in text(world, SERVICE)


def fails(world: World, unit: str) -> None:
    """Have its start fail."""
    failed = UnitStatus(unit, load="loaded", active="failed", sub="failed", result="resources")
    world.refuses = {}
    start = world.start

    def refuse(name: str, *, again: bool = False) -> None:
        start(name, again=again)
        if name == unit:
            world.shows(unit, failed)

    world.start = refuse  # type: ignore[method-assign]


def test_who_holds_the_port_is_named() -> None:
    world = make_world()
    world.listening(1234, 77)
    world.host.put("/proc/77/cmdline", b"nginx\0-g\0")
    world.host.put("/proc/77/cgroup", "0::/user.slice/app.slice/nginx.service\n")
    fails(world, SOCKET)
    with pytest.raises(HostError, match=r"port 1234 is taken by pid 77, nginx -g in nginx.service"):
        set_up(world)


def test_a_proxy_that_ends_at_once_is_told_with_its_last_words() -> None:
    world = make_world()
    world.journal[SERVICE] = ["2026-01-01T00:00:00 box python[7]: it has no head"]
    fails(world, SERVICE)
    with pytest.raises(HostError, match=r"llmctl-proxy.service does not start: it has no head"):
        set_up(world)


def test_a_python_that_does_not_find_llmctl_is_not_installed() -> None:
    world = make_world()
    world.host.install(
        "/usr/bin/env", lambda _: Output(stderr="x\nModuleNotFoundError: llmctl\n", status=1)
    )
    with pytest.raises(HostError, match="cannot run the proxy: ModuleNotFoundError: llmctl"):
        set_up(world)
    assert not world.host.paths(UNIT_DIR)


# ----------------------------------------------------------------------------------- apply


def applied(world: World, *, overwrite: bool = False) -> dict[str, str]:
    changes = proxy_changes(world.box, PYTHON, overwrite=overwrite)
    for one in changes:
        if one.is_change:
            world.host.put(f"{UNIT_DIR}/{one.unit}", one.after or "")
    follow(world.box, changes, clock=world.clock, report=lambda _: None)
    return {one.unit: one.kind.value for one in changes}


def asked(world: World) -> list[Sequence[str]]:
    verbs = ("try-restart", "try-reload-or-restart")
    return [(one[2], one[-1]) for one in world.host.calls if one[2:3] and one[2] in verbs]


def test_what_is_not_installed_is_nothing_to_apply() -> None:
    world = make_world()
    assert applied(world) == {}
    assert asked(world) == []


def test_when_nothing_of_the_units_changed_the_proxy_reads_again() -> None:
    world = installed()
    assert applied(world) == {SOCKET: "current", SERVICE: "current"}
    assert asked(world) == [("try-reload-or-restart", SERVICE)]


def test_another_text_of_the_service_restarts_the_service_only() -> None:
    world = installed()
    world.config("proxy: {stop_timeout: 5m}\n")
    assert applied(world) == {SOCKET: "current", SERVICE: "update"}
    assert asked(world) == [("try-restart", SERVICE)]


def test_other_addresses_open_the_socket_anew() -> None:
    world = installed()
    world.config("proxy: {listen: ['127.0.0.1:4321']}\n")
    assert applied(world) == {SOCKET: "update", SERVICE: "current"}
    assert asked(world) == [("try-restart", SOCKET)]
    assert [str(one) for one in listened(text(world, SOCKET))] == ["127.0.0.1:4321"]


def test_another_text_with_the_same_addresses_leaves_the_socket_open() -> None:
    world = installed()
    edit(world, SOCKET)
    assert applied(world, overwrite=True)[SOCKET] == "update"
    assert asked(world) == [("try-reload-or-restart", SERVICE)]


def test_addresses_that_must_not_be_are_a_complaint_and_no_change() -> None:
    world = installed()
    before = text(world, SOCKET)
    world.config("proxy: {listen: ['0.0.0.0:1234']}\n")
    assert applied(world) == {SOCKET: "broken"}
    assert text(world, SOCKET) == before


# ------------------------------------------------------------------------------- uninstall


def test_uninstalling_stops_and_removes_and_twice_is_once() -> None:
    world = installed()
    assert uninstall(world.box, clock=world.clock, report=lambda _: None).removed == UNITS
    assert not world.host.paths(UNIT_DIR)
    assert world.up() == []
    assert not world.unit(SOCKET).enabled
    assert uninstall(world.box, clock=world.clock, report=lambda _: None).removed == ()


def test_uninstalling_leaves_what_somebody_wrote() -> None:
    world = installed()
    edit(world, SERVICE)
    done = uninstall(world.box, clock=world.clock, report=lambda _: None)
    assert (done.removed, done.edited) == ((SOCKET,), (SERVICE,))
    assert "# mine" in text(world, SERVICE)


def test_a_broken_configuration_keeps_nobody_from_uninstalling() -> None:
    world = installed("unit_dir: /units\n")
    for unit in UNITS:
        world.shows(unit, replace(world.unit(unit), path=f"/units/{unit}"))
    world.config("proxy: {max_wait: soon}\n")
    assert uninstall(world.box, clock=world.clock, report=lambda _: None).removed == UNITS
    assert not world.host.paths("/units")


def test_what_is_waited_for_is_told_and_how_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long answer under way: the service stops as soon as it has ended."""
    world = installed("proxy: {stop_timeout: 2m}\n")
    box = world.box
    status, left = box.systemd.status, [*[UnitStatus(SERVICE, active="deactivating")] * 3]
    said: list[Event] = []

    def stopping(units: Sequence[str]) -> tuple[UnitStatus, ...]:
        seen = dict(zip(units, status(units), strict=True))
        if SERVICE in seen and left:
            seen[SERVICE] = left.pop()
        return tuple(seen[one] for one in units)

    monkeypatch.setattr(box.systemd, "status", stopping)
    assert uninstall(box, clock=world.clock, report=said.append).removed == UNITS
    assert said
    for one in said:
        assert isinstance(one, Waiting)
        assert one.what == (
            "the proxy lets answers under way end, for at most 120 s; "
            f"to cut them: systemctl --user kill {SERVICE}"
        )


# ---------------------------------------------------------------------------------- status


def told(problems: list[str] | None = None) -> bytes:
    return http(200, {"version": "0.1.0", "connections": 2, "problems": problems or [],
                      "in_flight": 2, "waiting": 1,
                      "queues": {"gpu": {"in_flight": {"a": 2}, "waiting": ["b"]}}})  # fmt: skip


def test_status_tells_what_runs() -> None:
    world = installed()
    world.host.servers[1234] = lambda _: told(["a.yaml: broken"])
    seen = proxy_status(world.box, PYTHON)
    assert (seen.installed, seen.state, seen.enabled) == (True, "running", True)
    assert seen.files == dict.fromkeys(UNITS, "current")
    assert [str(one) for one in seen.listen] == ["127.0.0.1:1234"]
    assert seen.problems == ("a.yaml: broken",)
    assert seen.told is not None
    assert (seen.told.connections, seen.told.in_flight, seen.told.waiting) == (2, 2, 1)


def test_looking_does_not_start_it() -> None:
    world = installed()
    world.stop(SERVICE)
    world.host.servers[1234] = lambda _: pytest.fail("it was asked")
    seen = proxy_status(world.box, PYTHON)
    assert (seen.state, seen.told) == ("listening", None)


def test_status_without_an_installation() -> None:
    seen = proxy_status(make_world().box, PYTHON)
    assert (seen.installed, seen.state) == (False, "stopped")
    assert seen.files == dict.fromkeys(UNITS, "missing")


def test_status_with_a_broken_configuration_still_tells() -> None:
    world = installed()
    world.config("proxy: {max_wait: soon}\n")
    seen = proxy_status(world.box, PYTHON)
    assert (seen.installed, seen.state) == (True, "running")
    assert seen.files == dict.fromkeys(UNITS, "broken")
    assert "max_wait" in seen.problems[0]


def test_a_failed_unit_is_a_failed_proxy() -> None:
    world = installed()
    world.shows(SOCKET, replace(world.unit(SOCKET), active="failed", sub="failed"))
    assert proxy_status(world.box, PYTHON).state == "failed"


# ------------------------------------------------------------------------------------ PATH


def finds(world: World, path: str | None) -> None:
    """Where this shell finds a llama-server."""
    others = world.host.which

    def which(program: str) -> str | None:
        return path if program == "llama-server" else others(program)

    world.host.which = which  # type: ignore[method-assign]


def test_a_build_that_only_the_shell_finds_is_named() -> None:
    world = installed("binaries: {upstream: llama-server, mine: /opt/mine/llama-server}\n")
    finds(world, "/opt/llama/bin/llama-server")
    said = (
        f"{HOME}/.config/llmctl/config.yaml: binaries.upstream: llama-server is found on your "
        "shell's PATH, and not by the proxy. Write: "
        "binaries: {upstream: /opt/llama/bin/llama-server}",
    )
    for path, problems in (("/usr/bin:/bin", said), ("/opt/llama/bin:/usr/bin", ())):
        world.search_path = path
        assert proxy_status(world.box, PYTHON).problems == problems
        done = install(world.box, PYTHON, clock=world.clock, report=lambda _: None)
        assert done.problems == problems


@pytest.mark.parametrize("found", [None, f"{HOME}/.local/bin/llama-server", "/bin/llama-server"])
def test_one_that_the_proxy_finds_or_nobody_does_is_not(found: str | None) -> None:
    world = installed()
    finds(world, found)
    assert proxy_status(world.box, PYTHON).problems == ()
