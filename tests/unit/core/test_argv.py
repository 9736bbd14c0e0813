"""core/argv.py: the exact argv of llama-server."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from support.world import HELP, OLD_HELP

from llmctl.core.argv import Files, argv_complaints, server_argv
from llmctl.core.flags import Flags, parse_help
from llmctl.core.profile import Profile
from llmctl.core.profile_parts import Draft, KvTypes, Sampling

NEW, OLD = parse_help(HELP), parse_help(OLD_HELP)
FILES = Files(binary="/opt/llama-server", model="/models/a.gguf")


def sample(**keys: object) -> Profile:
    return Profile(name="coder", **{"model": "a.gguf", **keys})  # type: ignore[arg-type]


def argv(*, flags: Flags = NEW, files: Files = FILES, **keys: Any) -> tuple[str, ...]:
    return server_argv(sample(**keys), files=files, port=12340, flags=flags)


def has(words: tuple[str, ...], *wanted: str) -> bool:
    """`wanted` stand in `words`, one after the other."""
    return any(
        words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1)
    )  # fmt: skip


def test_the_least_profile_says_all_that_matters() -> None:
    assert argv() == (
        "/opt/llama-server",
        *("--host", "127.0.0.1", "--port", "12340", "--alias", "coder", "-m", "/models/a.gguf"),
        *("-ngl", "all", "-np", "1", "-ctk", "f16", "-ctv", "f16", "-b", "2048", "-ub", "512"),
        *("-fa", "on", "--fit", "off", "-lv", "4", "--sse-ping-interval", "5"),
        *("--threads-http", "256"),
        *("--jinja", "--metrics", "--slots"),
    )


def test_an_old_build_is_asked_for_what_it_has() -> None:
    words = argv(flags=OLD)
    assert {"--fit", "-lv", "--sse-ping-interval"}.isdisjoint(words)
    assert has(words, "-fa", "--threads-http", "256", "--jinja")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ctx": 4096}, ("-c", "4096")),
        ({"gpu_layers": 0}, ("-ngl", "0")),
        ({"gpu_layers": "all"}, ("-ngl", "all")),
        ({"n_cpu_moe": 16}, ("--n-cpu-moe", "16")),
        ({"n_cpu_moe": 0}, ("--n-cpu-moe", "0")),
        ({"tensor_split": (37, 12)}, ("-ts", "37,12")),
        ({"devices": ("CUDA0", "Vulkan1")}, ("-dev", "CUDA0,Vulkan1")),
        ({"kv": "q4_0"}, ("-ctk", "q4_0", "-ctv", "q4_0")),
        ({"kv": KvTypes(k="q8_0", v="f16")}, ("-ctk", "q8_0", "-ctv", "f16")),
        ({"flash_attn": "off"}, ("-fa", "off")),
        ({"parallel": 4}, ("-np", "4")),
        ({"threads": 12}, ("-t", "12")),
        ({"draft": "mtp"}, ("--spec-type", "draft-mtp")),
        ({"draft": "ngram"}, ("--spec-type", "ngram-mod")),
        ({"sampling": Sampling(temperature=0.7)}, ("--temp", "0.7")),
        ({"sampling": Sampling(temperature=0.0)}, ("--temp", "0")),
        ({"sampling": Sampling(min_p=0.00001)}, ("--min-p", "1e-05")),
        ({"sampling": Sampling(seed=-1)}, ("--seed", "-1")),
        ({"args": ("--reasoning-budget", 8192)}, ("--reasoning-budget", "8192")),
    ],
    ids=str,
)  # fmt: skip
def test_a_key_becomes_its_flag(keys: dict[str, Any], words: tuple[str, ...]) -> None:
    assert has(argv(**keys), *words)


@pytest.mark.parametrize("value", [0.123456789, 1234567.0])
def test_a_sampling_value_is_passed_on_exactly(value: float) -> None:
    words = argv(sampling=Sampling(temperature=value))
    assert float(words[words.index("--temp") + 1]) == value


@pytest.mark.parametrize("flag", ["-c", "--n-cpu-moe", "-ts", "-dev", "-t", "-md", "--mmproj"])
def test_what_is_auto_is_not_said(flag: str) -> None:
    assert flag not in argv()


def test_a_projector_is_named_by_its_path() -> None:
    files = Files(binary="/b", model="/m", mmproj="/models/p.gguf")
    assert has(argv(files=files, mmproj="p.gguf"), "--mmproj", "/models/p.gguf")


def test_a_draft_model_is_used_and_not_only_loaded() -> None:
    files = Files(binary="/b", model="/m", draft="/models/d.gguf")
    words = argv(files=files, draft=Draft(model="d.gguf", n_max=5))
    expected = ("-md", "/models/d.gguf", "--spec-type", "draft-simple", "--spec-draft-n-max", "5")
    assert has(words, *expected)


def test_args_come_last() -> None:
    assert argv(args=("--reasoning-budget", "1"))[-2:] == ("--reasoning-budget", "1")


def test_a_build_that_does_not_know_the_word_all_gets_a_number_of_layers() -> None:
    assert has(argv(flags=parse_help("-ngl, --gpu-layers N    layers\n")), "-ngl", "999")


def test_a_build_with_a_bare_flash_attention_switch_gets_it_only_when_wanted() -> None:
    assert "-fa" not in argv(flags=OLD, flash_attn="off")


PROFILES = (
    sample(ctx=512, n_cpu_moe=1, tensor_split=(1,), devices=("a",), threads=1),
    sample(draft="mtp"),
    sample(draft=Draft(model="d.gguf")),
    sample(sampling=Sampling(0.1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 1)),
)
RENDERED = {
    word
    for build, profile in itertools.product((NEW, OLD), PROFILES)
    for word in server_argv(
        profile,
        files=Files("/b", "/m", "/p", "/d" if isinstance(profile.draft, Draft) else None),
        port=1,
        flags=build,
    )
    if re.match("--?[a-z]", word)
}


def spellings(flag: str) -> list[str]:
    """All spellings of a flag in the help's line of it."""
    lines = (line for line in HELP.splitlines() if line.startswith("-"))
    for line in lines:
        names = re.match(r"((?:--?[A-Za-z][\w-]*(?:,\s+|\s|$))+)", line)
        found = re.findall(r"--?[A-Za-z][\w-]*", names[1]) if names else []
        if flag in found:
            return found
    return [flag]


# A template may need --jinja off; llmctl only turns it on where it is off.
REFUSED = {one for flag in RENDERED for one in spellings(flag)} - {"--jinja", "--no-jinja"}


@pytest.mark.parametrize("flag", sorted(REFUSED))
def test_a_flag_that_llmctl_renders_is_refused_in_args_however_it_is_spelt(flag: str) -> None:
    found = argv_complaints(sample(args=(flag,)), NEW)
    assert [path for path, _ in found] == [("args", 0)]
    assert "llmctl" in found[0][1]


@pytest.mark.parametrize(
    ("word", "key"),
    [("-c", "ctx"), ("--ctx-size", "ctx"), ("-ctk", "kv"), ("-ngl", "gpu_layers"),
     ("--temp", "sampling"), ("-md", "draft"), ("-m", "model"), ("-ctv=q8_0", "kv")],
)  # fmt: skip
def test_a_refused_flag_names_the_key_to_use(word: str, key: str) -> None:
    ((_, text),) = argv_complaints(sample(args=(word,)), NEW)
    assert text.endswith(f"use the key {key}")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("--nonsense", "this llama-server has no --nonsense: its --help does not list it"),
        ("--reasoning-bugdet", "did you mean --reasoning-budget?"),
        ("--draft-max", "the argument has been removed"),
        ("--api-key", "use --api-key-file FILE"),
        ("--api-key=secret", "use --api-key-file FILE"),
        ("--port", "is set by llmctl and cannot be changed"),
    ],
)
def test_a_word_that_cannot_work_is_refused(word: str, words: str) -> None:
    ((path, text),) = argv_complaints(sample(args=("8192", word)), NEW)
    assert path == ("args", 1)
    assert words in text


def test_a_secret_is_not_repeated_in_a_complaint() -> None:
    ((_, text),) = argv_complaints(sample(args=("--api-key=s3cret",)), NEW)
    assert "s3cret" not in text


@pytest.mark.parametrize("word", ["-1", "8192", "a b", "--", "-", "{'a': 1}", "", -3])
def test_a_word_that_is_no_flag_is_left_alone(word: str | int) -> None:
    assert argv_complaints(sample(args=("--reasoning-budget", word)), NEW) == []


def without(*lacking: str) -> Flags:
    """The new build without some of its flags."""
    return Flags(help={flag: text for flag, text in NEW.help.items() if flag not in lacking})


@pytest.mark.parametrize(
    ("keys", "lacking", "key"),
    [
        ({"ctx": 4096}, ["-c"], "ctx"),
        ({}, ["-ngl"], "gpu_layers"),
        ({"n_cpu_moe": 4}, ["--n-cpu-moe", "-ncmoe"], "n_cpu_moe"),
        ({"tensor_split": (1, 2)}, ["-ts"], "tensor_split"),
        ({"devices": ("CUDA0",)}, ["-dev"], "devices"),
        ({}, ["-fa"], "flash_attn"),
        ({"threads": 4}, ["-t"], "threads"),
        ({"mmproj": "p.gguf"}, ["--mmproj"], "mmproj"),
        ({"draft": "mtp"}, ["--spec-type"], "draft"),
        ({"draft": "ngram"}, ["--spec-type"], "draft"),
        ({"draft": "d.gguf"}, ["-md"], "draft"),
        ({"draft": Draft(model="d.gguf")}, ["-md"], "draft"),
        ({"sampling": Sampling(seed=-1)}, ["--seed"], "sampling"),
    ],
    ids=str,
)
def test_a_flag_that_a_build_lacks_is_told_at_the_key_that_needs_it(
    keys: dict[str, object], lacking: list[str], key: str
) -> None:
    ((path, text),) = argv_complaints(sample(**keys), without(*lacking))
    assert path == (key,)
    assert text == f"this llama-server has no {lacking[0]}; use a newer binary"


def test_a_flag_that_a_build_has_no_more_is_one_that_it_lacks() -> None:
    build = Flags(help=NEW.help | {"--seed": "N the argument has been removed. use x"})
    ((path, _),) = argv_complaints(sample(sampling=Sampling(seed=1)), build)
    assert path == ("sampling",)


@pytest.mark.parametrize("profile", PROFILES, ids=range(len(PROFILES)))
@pytest.mark.parametrize("flag", sorted(RENDERED - {"--host", "--port", "--alias", "-m"}))
def test_no_flag_is_rendered_that_the_build_lacks_without_a_complaint(
    flag: str, profile: Profile
) -> None:
    build = without(flag)
    draft = "/d" if isinstance(profile.draft, Draft) else None
    words = server_argv(profile, files=Files("/b", "/m", None, draft), port=1, flags=build)
    told = any(f" {flag};" in text for _, text in argv_complaints(profile, build))
    assert told is (flag in words)


@pytest.mark.parametrize("keys", [{"draft": "off"}, {"draft": "auto"}, {"n_cpu_moe": "auto"}])
def test_what_no_key_asks_for_may_be_lacking(keys: dict[str, object]) -> None:
    lacking = ("--spec-type", "-md", "--n-cpu-moe", "-ncmoe", "--mmproj", "-ts", "-dev", "--seed")
    assert argv_complaints(sample(**keys), without(*lacking)) == []


def test_a_type_of_cache_that_a_build_lacks_is_told_at_the_key() -> None:
    build = Flags(help=NEW.help | {"-ctk": "TYPE one of: f16, q8_0"})
    ((path, text),) = argv_complaints(sample(kv="iq4_nl"), build)
    assert path == ("kv",)
    assert text == "this llama-server's -ctk does not take iq4_nl"


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_1"])
@pytest.mark.parametrize("build", [NEW, OLD], ids=["new", "old"])
def test_a_type_that_a_build_lists_is_fine(kind: str, build: Flags) -> None:
    assert argv_complaints(sample(kv=kind), build) == []
