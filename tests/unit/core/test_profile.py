"""core/profile.py: what a profile's file may say."""

from __future__ import annotations

import msgspec
import pytest

from llmctl.core.document import parse_yaml
from llmctl.core.profile import Profile, json_schema, parse_profile
from llmctl.core.profile_parts import Draft, KvTypes, Replicas, Sampling, seconds
from llmctl.errors import ProfileError
from llmctl.store.data import example_profiles


def parse(text: str, name: str = "coder") -> Profile:
    return parse_profile(parse_yaml(text, file="coder.yaml"), name=name, file="coder.yaml")


def problems(text: str, name: str = "coder") -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        parse(text, name)
    return caught.value.problems


def test_a_model_is_all_that_a_profile_needs() -> None:
    assert parse("model: a.gguf") == Profile(name="coder", model="a.gguf")


def test_every_key_of_the_design_is_taken() -> None:
    text = """
model: Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf
binary: upstream
group: gpu
aliases: [brainstormer]
ctx: 98304
kv: q4_0
gpu_layers: auto
n_cpu_moe: auto
tensor_split: [37, 12]
devices: [CUDA0, Vulkan1]
flash_attn: on
parallel: 1
batch: 2048
ubatch: 512
threads: 12
replicas: {max: 1, idle_timeout: 10m}
draft: off
mmproj: mmproj-F16.gguf
sampling: {temperature: 0.7, top_p: 0.8}
fallback: [gemma4]
stop_timeout: 30s
env: {RADV_DEBUG: nocompute}
args: ["--reasoning-budget", "8192"]
"""
    assert parse(text) == Profile(
        name="coder",
        model="Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf",
        aliases=("brainstormer",),
        ctx=98304,
        kv="q4_0",
        tensor_split=(37, 12),
        devices=("CUDA0", "Vulkan1"),
        threads=12,
        replicas=Replicas(max=1, idle_timeout="10m"),
        mmproj="mmproj-F16.gguf",
        sampling=Sampling(temperature=0.7, top_p=0.8),
        fallback=("gemma4",),
        env={"RADV_DEBUG": "nocompute"},
        args=("--reasoning-budget", "8192"),
    )


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("ctx: auto", "ctx", "auto"),
        ("gpu_layers: all", "gpu_layers", "all"),
        ("gpu_layers: 0", "gpu_layers", 0),
        ("n_cpu_moe: 0", "n_cpu_moe", 0),
        ("flash_attn: off", "flash_attn", "off"),
        ("kv: {k: q8_0, v: q8_0}", "kv", KvTypes(k="q8_0", v="q8_0")),
        ("draft: mtp", "draft", "mtp"),
        ("draft: small.gguf", "draft", "small.gguf"),
        ("draft: {model: small.gguf}", "draft", Draft(model="small.gguf", n_max=3)),
        ("args: [--seed-x, 3]", "args", ("--seed-x", 3)),
        ("env: {N: 3}", "env", {"N": 3}),
        ("sampling: {temperature: 1}", "sampling", Sampling(temperature=1.0)),
        ("aliases: []", "aliases", ()),
    ],
)
def test_a_value_is_taken_as_written(text: str, key: str, value: object) -> None:
    assert getattr(parse(f"model: a.gguf\n{text}"), key) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ctx: big", 'ctx: expected a whole number of tokens (at least 256), or auto, got "big"'),
        ("ctx: 16", "ctx: expected a whole number of tokens (at least 256), or auto, got 16"),
        ("ctx: 9.5", "ctx: expected a whole number of tokens (at least 256), or auto, got 9.5"),
        ("ctx: true", "ctx: expected a whole number of tokens (at least 256), or auto, got true"),
        ("ctx:", "ctx: expected a whole number of tokens (at least 256), or auto, got null"),
        ("flash_attn: yes", 'flash_attn: expected on, off or auto, got "yes"'),
        ("flash_attn: true", "flash_attn: expected on, off or auto, got true"),
        ("parallel: 0", "parallel: expected a whole number from 1 to 256, got 0"),
        ("port: 80", "port: expected a port from 1024 to 65535, got 80"),
        ("devices: CUDA0", 'devices: expected a list of device names, or auto, got "CUDA0"'),
        ("tensor_split: [1, -1]", "tensor_split[1]: expected "),
        ("kv: {k: q8_0}", "kv.v: missing"),
        ("replicas: {max: 0}", "replicas.max: expected "),
        ("replicas: {idle_timeout: soon}", "replicas.idle_timeout: expected "),
        ("stop_timeout: 30", "stop_timeout: expected a time such as 30s or 2m, got 30"),
        ("stop_timeout: 30 s", 'stop_timeout: expected a time such as 30s or 2m, got "30 s"'),
        ("sampling: {top_p: 2}", "sampling.top_p: expected "),
        ("sampling: {temprature: 1}", "sampling.temprature: unknown key"),
        ("args: --foo", "args: expected a list of words"),
        ("args: [0.5]", "args[0]: expected "),
        ("env: {A: 0.5}", "env.A: expected a whole number or text, got 0.5"),
        ("model: ''", "model: expected the path of a GGUF file"),
        ("name: other", "name: unknown key"),
        ("n_ctx: 4096", "n_ctx: unknown key; did you mean ctx?"),
        ("allow_mixed_kv: 1", "allow_mixed_kv: expected true or false, got 1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path_and_a_remedy(text: str, complaint: str) -> None:
    given = text if text.startswith("model") else f"model: a.gguf\n{text}"
    (problem,) = problems(given)
    assert problem.startswith(f"coder.yaml: {complaint}")


def test_a_number_that_is_out_of_range_is_refused_inside_a_list_too() -> None:
    (problem,) = problems("model: a.gguf\ntensor_split: [1, -1]")
    assert "-1" in problem
    assert "0" in problem.partition("expected")[2]


@pytest.mark.parametrize("name", ["Coder", "a b", "", "-a", ".a", "a/b", "é", "x" * 65, "a\n"])
def test_a_file_name_that_is_no_profile_name_is_refused(name: str) -> None:
    (problem,) = problems("model: a.gguf", name)
    assert "is no profile name" in problem


@pytest.mark.parametrize("name", ["a", "7b", "qwen3.6-27b_q4", "x" * 64])
def test_a_file_name_of_small_letters_digits_and_marks_is_a_profile_name(name: str) -> None:
    assert parse("model: a.gguf", name).name == name


def test_one_kv_type_is_for_k_and_v_alike() -> None:
    assert parse("model: a.gguf\nkv: q8_0").kv_types == KvTypes(k="q8_0", v="q8_0")


def test_group_none_makes_a_resident() -> None:
    assert parse("model: a.gguf\ngroup: none\nport: 12400").is_resident


@pytest.mark.parametrize(
    ("text", "value"), [("500ms", 0.5), ("30s", 30.0), ("10m", 600.0), ("2h", 7200.0)]
)
def test_a_time_is_read_in_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


def test_the_stop_timeout_is_told_in_seconds() -> None:
    assert parse("model: a.gguf\nstop_timeout: 2m").stop_timeout_s == 120.0


def test_the_schema_describes_every_key_but_the_name() -> None:
    properties = json_schema()["$defs"]["Profile"]["properties"]
    keys = {field.name for field in msgspec.structs.fields(Profile)} - {"name"}
    assert set(properties) == keys
    assert all(one.get("description") for one in properties.values())


def test_the_schema_requires_only_the_model() -> None:
    assert json_schema()["$defs"]["Profile"]["required"] == ["model"]


@pytest.mark.parametrize("name", [name for name, _ in example_profiles()])
def test_a_shipped_profile_parses(name: str) -> None:
    text = dict(example_profiles())[name]
    assert parse(text, name).name == name


@pytest.mark.parametrize(
    "field", [f for f in msgspec.structs.fields(Profile) if f.name != "name"], ids=lambda f: f.name
)
def test_every_key_has_a_title_a_description_and_an_example(
    field: msgspec.structs.FieldInfo,
) -> None:
    notes = [one for one in field.type.__metadata__ if isinstance(one, msgspec.Meta)]
    assert notes[-1].title
    assert notes[-1].description
    assert notes[-1].examples
