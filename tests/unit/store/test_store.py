"""store/store.py: what a box has on its disk."""

from __future__ import annotations

import pytest
from support.fakes import HOME, FakeHost
from support.world import CONFIG_DIR, SERVER, World

from llmctl.core.argv import Files
from llmctl.core.config import Config
from llmctl.errors import HostError, ProfileError
from llmctl.store import Store

CACHE = f"{HOME}/.cache/llmctl/documents.json"


def make_world() -> World:
    world = World()
    world.profile("a")
    world.profile("b")
    return world


def store(world: World) -> Store:
    return Store(world.host)


@pytest.mark.parametrize(
    ("variable", "attribute", "default"),
    [
        ("XDG_CONFIG_HOME", "config_dir", f"{HOME}/.config/llmctl"),
        ("XDG_STATE_HOME", "state_dir", f"{HOME}/.local/state/llmctl"),
        ("XDG_CACHE_HOME", "cache_dir", f"{HOME}/.cache/llmctl"),
    ],
)
def test_a_place_follows_its_xdg_variable(variable: str, attribute: str, default: str) -> None:
    assert getattr(Store(FakeHost()), attribute) == default
    moved = Store(FakeHost(environ={variable: "/elsewhere"}))
    assert getattr(moved, attribute) == "/elsewhere/llmctl"


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_a_relative_xdg_path_is_ignored_as_its_specification_wants(value: str) -> None:
    assert Store(FakeHost(environ={"XDG_CACHE_HOME": value})).cache_dir.startswith(HOME)


def test_units_lie_where_the_user_manager_reads_them() -> None:
    assert Store(FakeHost()).unit_dir == f"{HOME}/.config/systemd/user"


def test_the_unit_directory_can_be_moved() -> None:
    world = World()
    world.config("unit_dir: $XDG_RUNTIME_DIR/systemd/user")
    world.host.environ()["XDG_RUNTIME_DIR"] = "/run/user/1000"  # type: ignore[index]
    assert store(world).unit_dir == "/run/user/1000/systemd/user"


def test_no_configuration_is_the_default_one() -> None:
    assert Store(FakeHost()).config == Config()


def test_the_configuration_is_read() -> None:
    world = World()
    world.config("models_dir: /srv/models")
    assert store(world).config.models_dir == "/srv/models"


@pytest.mark.parametrize("data", [b"models_dir: \xff", b"a: [", b"models_dirs: x"])
def test_a_broken_configuration_is_refused_with_its_path(data: bytes) -> None:
    world = World()
    world.host.put(f"{CONFIG_DIR}/config.yaml", data)
    with pytest.raises(ProfileError, match=f"^{CONFIG_DIR}/config.yaml"):
        store(world).config.binary("upstream")


def test_names_are_those_of_the_yaml_files() -> None:
    world = make_world()
    world.host.put(f"{CONFIG_DIR}/profiles/notes.txt", "x")
    world.host.put(f"{CONFIG_DIR}/profiles/.hidden.yaml.swp", "x")
    assert store(world).names == ("a", "b")


def test_a_directory_is_no_profile() -> None:
    world = make_world()
    world.host.put(f"{CONFIG_DIR}/profiles/old.yaml/c.yaml", "model: x")
    assert store(world).names == ("a", "b")


def test_no_profiles_are_no_names() -> None:
    assert Store(FakeHost()).names == ()


def test_a_profile_is_found_by_name() -> None:
    assert store(make_world()).profile("a").model == "/models/a.gguf"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("coder", "There is a, b."), ("aa", "Did you mean a?")],
)
def test_an_unknown_profile_is_refused_with_those_there_are(name: str, hint: str) -> None:
    with pytest.raises(ProfileError, match=f"there is no profile {name}") as caught:
        store(make_world()).profile(name)
    assert caught.value.hint == hint


def test_without_any_profile_the_hint_says_how_to_write_one() -> None:
    with pytest.raises(ProfileError) as caught:
        Store(FakeHost()).profile("a")
    assert "llmctl new NAME FILE.gguf" in str(caught.value.hint)


def test_names_of_profiles_pass_be_they_broken() -> None:
    world = make_world()
    world.profile("b", "ctx: nonsense")
    store(world).require(["a", "b"])


def test_a_name_that_only_a_unit_has_passes() -> None:
    world = make_world()
    world.host.put(f"{HOME}/.config/systemd/user/llm-gone.service", "x")
    store(world).require(["gone"])


def test_a_name_that_nothing_has_is_refused_with_what_was_meant() -> None:
    world = World()
    world.profile("coder")
    with pytest.raises(ProfileError, match="there is no profile codr") as caught:
        store(world).require(["coder", "codr"])
    assert caught.value.hint == "Did you mean coder?"


@pytest.mark.parametrize(
    "data",
    [b"a: [", b"\xff", b"ctx: 1", b"- a", b"? [1]\n: 2\n", b"&a {model: *a}\n",
     b"model: x\nctx: 99999999999999999999999999\nfoo: 1\n",
     b"model: x\nenv: {1: 2}\n", b"model: !!timestamp 2001-01-01\n", b"model: !!set {a}\n"],
)  # fmt: skip
def test_a_broken_profile_is_kept_with_its_error(data: bytes) -> None:
    world = make_world()
    world.host.put(f"{CONFIG_DIR}/profiles/b.yaml", data)
    loaded = store(world).profiles
    assert loaded["b"].error is not None
    assert loaded["a"].error is None


def test_a_broken_profile_keeps_its_group() -> None:
    world = make_world()
    world.profile("b", "group: vision\nctx: nonsense")
    assert store(world).profiles["b"].group == "vision"


def test_a_file_whose_name_is_no_profile_name_is_an_error_of_that_file_only() -> None:
    world = make_world()
    world.profile("Coder")
    loaded = store(world).profiles
    assert loaded["Coder"].error is not None
    assert loaded["a"].profile is not None


def test_an_unreadable_profile_is_an_error_of_that_file_only() -> None:
    world = make_world()
    world.host.failing[f"{CONFIG_DIR}/profiles/b.yaml"] = "Permission denied"
    loaded = store(world).profiles
    assert loaded["b"].error is not None
    assert loaded["a"].profile is not None


# The cache of parsed documents


def test_a_parsed_document_is_kept() -> None:
    world = make_world()
    assert store(world).profiles
    assert CACHE in world.host.written


def test_the_cache_is_for_its_owner_alone() -> None:
    """env: of a profile may hold a key."""
    world = make_world()
    assert store(world).profiles
    assert world.host.mode(CACHE) == 0o600


def test_what_is_known_is_not_written_again() -> None:
    world = make_world()
    assert store(world).profiles
    world.host.written.clear()
    assert store(world).profiles
    assert world.host.written == []


def test_a_document_from_the_cache_is_the_same_profile() -> None:
    world = make_world()
    world.profile("a", "kv: {k: q8_0, v: q8_0}\nenv: {A: 1}\nsampling: {top_p: 0.8}\nargs: [-x, 3]")
    first = store(world).profile("a")
    assert store(world).profile("a") == first


def test_a_changed_file_is_read_again() -> None:
    world = make_world()
    assert store(world).profiles
    world.profile("a", "ctx: 8192")
    assert store(world).profile("a").ctx == 8192


def test_a_broken_document_from_the_cache_has_the_same_error() -> None:
    world = make_world()
    world.profile("a", "ctx: nonsense\nenv: {1: 2}")
    first, second = (store(world).profiles["a"].error for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.problems == second.problems


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"x": 1}', b"\xff"])
def test_a_broken_cache_is_ignored(data: bytes) -> None:
    world = make_world()
    world.host.put(CACHE, data)
    assert store(world).profile("a").name == "a"


def test_a_disk_that_takes_no_cache_only_costs_time() -> None:
    world = make_world()
    world.host.failing[f"{HOME}/.cache"] = "Read-only file system"
    assert store(world).profile("a").name == "a"


# Units


def test_only_services_of_models_are_model_units() -> None:
    world = World()
    for name in ("llm-a.service", "llm.slice", "other.service", "llm-b@.socket"):
        world.host.put(f"{HOME}/.config/systemd/user/{name}", "x")
    assert set(store(world).unit_texts()) == {"llm-a.service"}


def test_a_unit_that_is_not_installed_has_no_text() -> None:
    assert Store(FakeHost()).unit_text("llm-a.service") is None


@pytest.mark.parametrize(
    ("logs", "path"), [("journal", None), ("file", f"{HOME}/.local/state/llmctl/logs/a.log")]
)
def test_output_goes_where_the_configuration_says(logs: str, path: str | None) -> None:
    world = World()
    world.config(f"logs: {logs}")
    assert store(world).log_file("a") == path


def test_the_text_that_a_unit_was_ready_with_is_kept() -> None:
    world = World()
    one = store(world)
    one.write_unit("llm-a.service", "[Service]\n")
    one.keep_text("llm-a.service")
    assert store(world).kept_text("llm-a.service") == "[Service]\n"


def test_no_text_is_kept_of_a_unit_that_never_was_ready() -> None:
    assert Store(FakeHost()).kept_text("llm-a.service") is None


def test_a_disk_that_keeps_no_text_spoils_nothing() -> None:
    world = World()
    one = store(world)
    one.write_unit("llm-a.service", "[Service]\n")
    world.host.failing[one.state_dir] = "No space left on device"
    one.keep_text("llm-a.service")
    assert one.kept_text("llm-a.service") is None


def test_a_file_whose_suffix_is_nearly_right_is_told() -> None:
    world = make_world()
    world.host.put(f"{CONFIG_DIR}/profiles/c.yml", "model: x")
    assert store(world).strays == (
        f"{CONFIG_DIR}/profiles/c.yml is not read; profiles end in .yaml",
    )


# Files of a profile


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("x.gguf", f"{HOME}/models/x.gguf"),
        ("sub/x.gguf", f"{HOME}/models/sub/x.gguf"),
        ("/abs/x.gguf", "/abs/x.gguf"),
        ("~/x.gguf", f"{HOME}/x.gguf"),
    ],
)
def test_a_models_path_is_made_absolute(given: str, path: str) -> None:
    assert Store(FakeHost()).model_path(given) == path


def test_a_profiles_files_are_absolute() -> None:
    world = make_world()
    world.profile("a", "mmproj: p.gguf\ndraft: {model: /d.gguf}")
    one = store(world)
    assert one.files(one.profile("a")) == Files(
        binary=SERVER,
        model="/models/a.gguf",
        mmproj=f"{HOME}/models/p.gguf",
        draft="/d.gguf",
    )


def test_a_projector_may_lie_beside_the_model() -> None:
    world = make_world()
    world.host.put("/models/p.gguf", "GGUF")
    world.profile("a", "mmproj: p.gguf")
    one = store(world)
    assert one.files(one.profile("a")).mmproj == "/models/p.gguf"


def test_the_size_of_a_split_model_is_that_of_all_parts() -> None:
    world = World()
    for part in (1, 2):
        world.host.put(f"/m/x-0000{part}-of-00002.gguf", b"GGUF" * part)
    world.host.put(f"{CONFIG_DIR}/profiles/a.yaml", "model: /m/x-00001-of-00002.gguf")
    one = store(world)
    assert one.model_bytes(one.profile("a")) == 12


def test_a_model_with_a_missing_part_has_no_size() -> None:
    world = World()
    world.host.put("/m/x-00001-of-00002.gguf", b"GGUF")
    world.host.put(f"{CONFIG_DIR}/profiles/a.yaml", "model: /m/x-00001-of-00002.gguf")
    one = store(world)
    assert one.model_bytes(one.profile("a")) is None
    assert one.missing_file(one.profile("a")) == (
        "its file /m/x-00002-of-00002.gguf does not exist"
    )


def test_files_that_are_there_are_not_missing() -> None:
    one = store(make_world())
    assert one.missing_file(one.profile("a")) is None


def test_a_file_that_cannot_be_read_is_told() -> None:
    world = make_world()
    world.host.failing["/models/a.gguf"] = "Permission denied"
    one = store(world)
    assert one.missing_file(one.profile("a")) == "/models/a.gguf cannot be read: Permission denied"


def test_a_model_that_is_a_directory_is_told() -> None:
    world = make_world()
    world.profile("a")
    world.host.put(f"{CONFIG_DIR}/profiles/a.yaml", "model: /models")
    one = store(world)
    assert "Is a directory" in str(one.missing_file(one.profile("a")))


def test_an_unreadable_directory_is_an_error() -> None:
    world = make_world()
    world.host.failing[CONFIG_DIR] = "Permission denied"
    with pytest.raises((HostError, ProfileError)):
        store(world).profile("a")
