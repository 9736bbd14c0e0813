"""engine/box.py: a profile with its place on a box."""

from __future__ import annotations

import pytest
from support.fakes import HOME, Output
from support.systemd_syntax import assignment, values
from support.world import CONFIG_DIR, HELP, PORT, SERVER, UNIT_DIR, World

from llmctl.core.plan import Start
from llmctl.core.unit import read_header
from llmctl.engine.box import Target
from llmctl.engine.execute import Executor
from llmctl.errors import ProfileError

A = "llm-a.service"


def make_world() -> World:
    world = World()
    for name in ("a", "b"):
        world.profile(name)
    return world


def test_members_of_a_group_share_its_port() -> None:
    box = make_world().box
    assert [box.resolve(name).place.port for name in ("a", "b")] == [12340, 12340]


def test_a_resident_has_its_own_port() -> None:
    world = make_world()
    world.profile("r", "group: none\nport: 12400")
    assert world.box.resolve("r").place.port == 12400


def test_a_broken_member_is_still_a_rival() -> None:
    world = make_world()
    world.profile("b", "ctx: nonsense")
    assert world.box.resolve("a").place.rivals == ("llm-b.service",)


def test_a_member_that_is_no_yaml_is_a_rival_in_the_default_group() -> None:
    world = make_world()
    world.host.put(f"{CONFIG_DIR}/profiles/b.yaml", "a: [")
    assert world.box.resolve("a").place.rivals == ("llm-b.service",)


def test_members_of_another_group_are_no_rivals() -> None:
    world = make_world()
    world.config("groups: {gpu: {port: 12340}, vision: {port: 12360}}")
    world.profile("v", "group: vision")
    assert world.box.resolve("v").place.rivals == ()


def test_foreign_units_of_the_group_are_excluded() -> None:
    world = make_world()
    world.config("groups: {gpu: {port: 12340, conflicts: [ollama.service]}}")
    assert world.box.resolve("a").place.foreign == ("ollama.service",)


def test_an_unknown_group_is_refused_with_what_to_type() -> None:
    world = make_world()
    world.profile("v", "group: vision")
    with pytest.raises(ProfileError, match="group: vision is not a group") as caught:
        world.box.resolve("v")
    assert "groups: {vision: {port: 12360}}" in str(caught.value.hint)


def test_an_unknown_binary_is_refused_with_what_to_type() -> None:
    world = make_world()
    world.profile("v", "binary: tq3")
    with pytest.raises(ProfileError, match=r"config\.yaml has no tq3; it has upstream") as caught:
        world.box.resolve("v")
    assert "binaries: {tq3: /path/to/llama-server}" in str(caught.value.hint)


def test_a_binary_that_is_not_there_is_refused_with_its_path() -> None:
    world = make_world()
    world.config("binaries: {upstream: /opt/none}")
    with pytest.raises(ProfileError, match="/opt/none is not an executable file on box"):
        world.box.resolve("a")


def test_all_complaints_of_flags_and_neighbours_come_at_once() -> None:
    world = make_world()
    world.profile("a", "aliases: [b]\nargs: [--port, 1]")
    with pytest.raises(ProfileError) as caught:
        world.box.resolve("a")
    assert len(caught.value.problems) == 2


def test_the_environment_is_the_binarys_and_then_the_profiles() -> None:
    world = make_world()
    world.config("binaries: {upstream: {path: llama-server, env: {A: 1, B: 1}}}")
    world.host.install("/usr/bin/env", lambda _: Output(stdout=HELP))
    world.profile("a", "env: {B: 2}")
    box = world.box
    found = values(box.render(box.resolve("a")).text, "Environment")
    environment = dict(assignment(one) for one in found)
    assert {key: environment[key] for key in "AB"} == {"A": "1", "B": "2"}


def test_an_installed_unit_that_is_current_is_taken_as_it_is() -> None:
    world = make_world()
    box = world.box
    text = box.render(box.resolve("a")).text.replace("RestartSec=5", "RestartSec=9")
    world.host.put(f"{UNIT_DIR}/{A}", text)
    assert box.render(box.resolve("a")).text == text


def test_a_unit_can_be_rendered_whatever_is_installed() -> None:
    world = make_world()
    box = world.box
    text = box.render(box.resolve("a")).text
    world.host.put(f"{UNIT_DIR}/{A}", text.replace("RestartSec=5", "RestartSec=9"))
    assert box.render_anew(box.resolve("a")).text == text


def test_a_resolved_profile_knows_the_digest_that_its_unit_will_carry() -> None:
    box = make_world().box
    resolved = box.resolve("a")
    assert read_header(box.render(resolved).text).source == resolved.source


def test_a_process_that_is_gone_has_no_digest() -> None:
    box = make_world().box
    assert (box.running_process(0), box.running_process(77)) == (None, None)


def test_an_unreadable_process_is_like_one_that_is_gone() -> None:
    world = make_world()
    world.host.put("/proc/77/environ", b"LLMCTL_PROCESS=x")
    world.host.failing["/proc/77/environ"] = "Permission denied"
    assert world.box.running_process(77) is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", None),
        ("env: {LLAMA_API_KEY: 'one,two'}", "one"),
        ("binary: keyed", "of-the-build"),
        ("binary: keyed\nenv: {LLAMA_API_KEY: mine}", "mine"),
        ("args: [--api-key-file, /keys]", "from-file"),
        ("args: [--api-key-file, /none]", None),
    ],
)
def test_the_key_of_a_server_is_found(text: str, key: str | None) -> None:
    world = make_world()
    world.config("binaries: {keyed: {path: llama-server, env: {LLAMA_API_KEY: 'of-the-build,x'}}}")
    world.host.put("/keys", "# ours\n\n from-file \nother\n")
    world.profile("a", text)
    box = world.box
    assert box.api_key(box.store.profile("a")) == key


# Keys of servers, where clients need keys


KEY_FILE = f"{HOME}/.local/state/llmctl/server.key"


def keyed(text: str = "") -> World:
    world = make_world()
    world.config("proxy: {api_keys: keys}")
    world.profile("a", text)
    return world


def words_of(world: World, name: str = "a") -> tuple[str, ...]:
    return world.box.resolve(name).argv


def test_where_clients_need_keys_servers_want_one_from_a_file() -> None:
    words = words_of(keyed())
    assert words[words.index("--api-key-file") + 1] == KEY_FILE
    assert "--api-key-file" not in words_of(make_world())


@pytest.mark.parametrize(
    "text", ["args: [--api-key-file, /mine]", "env: {LLAMA_API_KEY: mine}", "binary: keyed"]
)
def test_a_profile_that_has_a_key_of_its_own_keeps_it(text: str) -> None:
    world = keyed(text)
    builds = "{upstream: llama-server, keyed: {path: llama-server, env: {LLAMA_API_KEY: mine}}}"
    world.config(f"proxy: {{api_keys: keys}}\nbinaries: {builds}")
    world.host.install("/usr/bin/env", lambda _: Output(stdout=HELP))
    assert KEY_FILE not in words_of(world)
    world.host.put("/mine", "mine\n")
    box = world.box
    assert box.api_key(box.store.profile("a")) == "mine"


def test_a_build_that_takes_no_key_is_refused() -> None:
    world = keyed()
    without = HELP.replace("--api-key-file", "--other-file")
    world.host.install(SERVER, lambda _: Output(stdout=without))
    with pytest.raises(ProfileError, match="a way around the proxy's API keys"):
        world.box.resolve("a")


def test_the_key_is_made_with_the_first_unit_and_stays() -> None:
    world = keyed()
    world.apply()
    key = world.host.text(KEY_FILE)
    assert len(key) == 65
    assert world.host.mode(KEY_FILE) == 0o600
    world.profile("a", "ctx: 8192")
    world.apply()
    assert world.host.text(KEY_FILE) == key
    box = world.box
    assert box.api_key(box.store.profile("a")) == key.strip()


def test_the_key_is_in_no_unit_and_no_cache() -> None:
    world = keyed()
    world.apply()
    key = world.host.text(KEY_FILE).encode().strip()
    holders = [path for path in world.host.paths() if key in world.host.read(path)]
    assert holders == [KEY_FILE]


def test_a_key_that_was_removed_is_made_again_before_a_start() -> None:
    world = keyed()
    world.apply()
    world.host.remove(KEY_FILE)
    executor = Executor(world.box, clock=world.clock, report=lambda _: None)
    executor.do(Start(A))
    assert len(world.host.text(KEY_FILE)) == 65


def test_a_server_that_goes_on_with_its_key_is_asked_with_it() -> None:
    """Clients need keys no longer, and the unit is not applied yet."""
    world = keyed()
    world.apply()
    world.config("")
    box = world.box
    assert box.api_key(box.store.profile("a")) == world.host.text(KEY_FILE).strip()
    world.apply()
    box = world.box
    assert box.api_key(box.store.profile("a")) is None


def test_units_without_it_make_no_key() -> None:
    world = make_world()
    world.apply()
    assert KEY_FILE not in world.host.paths()


# Where it listens


def moved() -> World:
    """Profiles are installed; then the group's port is changed in config.yaml."""
    world = make_world()
    world.apply()
    world.config("groups: {gpu: {port: 12399}}")
    return world


def test_the_installed_unit_says_where_its_server_listens() -> None:
    world = moved()
    assert (world.box.port_of(A, "gpu"), world.box.target("a").port) == (PORT, PORT)


def test_a_unit_that_does_not_say_its_port_listens_where_its_group_does() -> None:
    world = moved()
    path = f"{UNIT_DIR}/{A}"
    world.host.put(path, world.host.text(path).replace(f"Port={PORT}\n", ""))
    assert world.box.target("a").port == 12399


def test_a_unit_that_is_not_installed_is_looked_for_at_its_groups_port() -> None:
    assert make_world().box.target("a").port == PORT


def test_the_port_of_a_group_that_is_gone_is_unknown() -> None:
    assert make_world().box.port_of("llm-x.service", "vision") == 0


@pytest.mark.parametrize("text", [None, "ctx: nonsense"])
def test_a_unit_whose_profile_is_gone_or_broken_still_tells_its_port(text: str | None) -> None:
    world = moved()
    if text is None:
        world.host.remove(f"{CONFIG_DIR}/profiles/a.yaml")
    else:
        world.profile("a", text)
    assert world.box.target("a") == Target("a", A, PORT)


def test_a_resident_is_waited_for_at_its_own_port() -> None:
    world = make_world()
    world.profile("r", "group: none\nport: 12400")
    world.apply()
    assert world.box.target("r").port == 12400
