"""core/config.py: what config.yaml may say."""

from __future__ import annotations

import msgspec
import pytest

from llmctl.core.config import (
    Binary,
    Config,
    Device,
    Group,
    json_schema,
    parse_config,
    require_group,
)
from llmctl.core.document import parse_yaml
from llmctl.errors import ProfileError


def parse(text: str) -> Config:
    return parse_config(parse_yaml(text, file="config.yaml"), file="config.yaml")


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        parse(text)
    return caught.value.problems


def test_an_empty_file_is_a_working_configuration() -> None:
    assert parse("") == Config(
        models_dir="~/models",
        binaries={"upstream": "llama-server"},
        groups={"gpu": Group(port=12340)},
        devices={},
        logs="journal",
        unit_dir=None,
    )


def test_a_binary_is_a_path() -> None:
    assert parse("binaries: {tq3: /opt/x}").binary("tq3") == Binary(path="/opt/x")


def test_a_binary_may_bring_an_environment() -> None:
    found = parse("binaries: {tq3: {path: /opt/x, env: {A: 1}}}").binary("tq3")
    assert found == Binary(path="/opt/x", env={"A": 1})


def test_devices_are_declared_with_sizes() -> None:
    config = parse("devices: {CUDA0: {total: 15.9GiB, reserve: 0}, RAM: {free: 34359738368}}")
    assert config.devices == {
        "CUDA0": Device(total="15.9GiB", reserve=0),
        "RAM": Device(free=34359738368),
    }


def test_a_binary_that_is_not_there_is_none() -> None:
    assert Config().binary("tq3") is None


@pytest.mark.parametrize(
    "unit", ["ollama.service", "a@b.service", "x.socket", r"a\x2db.service", "a_b-c.d.service"]
)
def test_a_foreign_unit_is_taken(unit: str) -> None:
    config = parse(f"groups: {{gpu: {{port: 12340, conflicts: ['{unit}']}}}}")
    assert config.groups["gpu"].conflicts == (unit,)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("groups: {none: {port: 12340}}", "groups.none: expected a name such as gpu"),
        ("groups: {GPU: {port: 12340}}", "groups.GPU: expected a name such as gpu"),
        ("groups: {gpu: {}}", "groups.gpu.port: missing"),
        ("groups: {gpu: {port: 80}}", "groups.gpu.port: expected "),
        ("groups: {a: {port: 5000}, b: {port: 5000}}", "groups.b.port: 5000 is group a's"),
        ("groups: {a: {port: 5000, colour: 1}}", "groups.a.colour: unknown key"),
        (
            "groups: {a: {port: 5000, conflicts: [ollama]}}",
            "groups.a.conflicts[0]: expected",
        ),
        ("groups: {a: {port: 5000, conflicts: [a b.service]}}", "groups.a.conflicts[0]: expected"),
        ("groups: {a: {port: 5000, conflicts: ['%i.service']}}", "groups.a.conflicts[0]: expected"),
        ("groups: {a: {port: 5000, conflicts: [é.service]}}", "groups.a.conflicts[0]: expected"),
        ("groups: {a: {port: 5000, conflicts: [x.nonsense]}}", "groups.a.conflicts[0]: expected"),
        ("binaries: {a: $HOME/x}", "binaries.a: a path with"),
        ('binaries: {a: "a\\nb"}', "binaries.a: a path with"),
        ("binaries: {a: {path: ''}}", "binaries.a.path: expected "),
        ("binaries: {a: {}}", "binaries.a.path: missing"),
        ("binaries: [a]", "binaries: expected names with a path each"),
        ("binaries: {a: build/llama-server}", "binaries.a: build/llama-server is relative"),
        ("devices: {CUDA0: 24GiB}", "devices.CUDA0: expected"),
        ("devices: {CUDA0: {total: 24GB}}", "devices.CUDA0.total: expected a size such as 24GiB"),
        ("devices: {CUDA0: {reserve: 24}}", "devices.CUDA0.reserve: 24 without a unit is bytes"),
        ("devices: {CUDA0: {total: 15.9}}", "devices.CUDA0.total: expected"),
        ("devices: {CUDA0: {total: 0}}", "devices.CUDA0.total: expected more than nothing"),
        ("devices: {CUDA0: {total: -5}}", "devices.CUDA0.total: expected a size"),
        ("devices: {A: {total: 8GiB, free: 9GiB}}", "devices.A.free: 9GiB is more than the total"),
        ("devices: {CUDA0: {size: 8GiB}}", "devices.CUDA0.size: unknown key"),
        ("devices: [CUDA0]", "devices: expected names with {total: SIZE"),
        ("models_dir: models", "models_dir: models is relative"),
        ("unit_dir: units", "unit_dir: units is relative"),
        ("logs: syslog", 'logs: expected journal or file, got "syslog"'),
        ("model_dir: /x", "model_dir: unknown key; did you mean models_dir?"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(text: str, complaint: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"config.yaml: {complaint}")


def test_a_model_of_ours_is_no_foreign_unit() -> None:
    """It would be ordered both before and after its rival, which systemd calls a cycle."""
    assert problems("groups: {gpu: {port: 12340, conflicts: [llm-coder.service]}}")


@pytest.mark.parametrize("path", ["a b", "~/x y/llama-server", "/opt/100%/llama-server"])
def test_a_path_that_a_unit_can_start_is_taken(path: str) -> None:
    assert parse(f"binaries: {{a: '{path}'}}").binaries == {"a": path}


def test_a_group_is_found_by_name() -> None:
    assert require_group(Config(), "gpu", file="x.yaml") == Group(port=12340)


def test_an_unknown_group_is_refused_with_what_to_type() -> None:
    with pytest.raises(
        ProfileError, match=r"x.yaml: group: npu is not a group.*; there is gpu"
    ) as e:
        require_group(Config(), "npu", file="x.yaml")
    assert e.value.hint == "Add it to config.yaml: groups: {npu: {port: 12360}}"


def test_the_hint_for_an_unknown_group_is_valid_configuration() -> None:
    with pytest.raises(ProfileError) as caught:
        require_group(Config(), "npu", file="x.yaml")
    assert parse((caught.value.hint or "").partition(": ")[2]).groups["npu"].port == 12360


@pytest.mark.parametrize("field", msgspec.structs.fields(Config), ids=lambda field: field.name)
def test_every_key_has_a_title_a_description_and_an_example(
    field: msgspec.structs.FieldInfo,
) -> None:
    (note,) = [one for one in field.type.__metadata__ if isinstance(one, msgspec.Meta)]
    assert note.title
    assert note.description
    assert note.examples


def test_the_schema_describes_every_key() -> None:
    properties = json_schema()["$defs"]["Config"]["properties"]
    assert set(properties) == {field.name for field in msgspec.structs.fields(Config)}


def test_each_fault_of_a_section_is_told_in_words() -> None:
    assert problems("proxy: {max_wait: soon, unknown_model: some, max_queue: 0, hots: [a.b]}") == (
        'config.yaml: proxy.max_wait: expected a time such as 500ms, 30s, 5m or 1h, got "soon"',
        'config.yaml: proxy.unknown_model: expected active or error, got "some"',
        "config.yaml: proxy.max_queue: expected a whole number, at least 1, got 0",
        "config.yaml: proxy.hots: unknown key; did you mean hosts?",
    )


def test_what_a_section_of_a_name_lacks_is_told() -> None:
    assert problems("groups: {gpu: {}}") == ("config.yaml: groups.gpu.port: missing",)
