"""core/profile_rules.py: rules between a profile's keys."""

from __future__ import annotations

import pytest

from llmctl.core.profile import Profile
from llmctl.core.profile_parts import Draft, KvTypes
from llmctl.core.profile_rules import KV_TYPES, complaints


def sample(**keys: object) -> Profile:
    return Profile(name="coder", **{"model": "a.gguf", **keys})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"kv": KvTypes(k="q8_0", v="q4_0"), "allow_mixed_kv": True},
        {"kv": KvTypes(k="q8_0", v="f16"), "allow_mixed_kv": True, "flash_attn": "off"},
        {"kv": "bf16", "flash_attn": "off"},
        {"kv": "q8_0", "flash_attn": "auto"},
        {"group": "none", "port": 12400},
        {"group": "vision"},
        {"batch": 512, "ubatch": 512},
        {"draft": Draft(model="x")},
        {"draft": "ngram"},
        {"stop_timeout": "6s"},
        {"stop_timeout": "5001ms"},
        {"stop_timeout": "1h"},
        {"env": {"A_1": "tab\tand\nnewline é"}},
        {"args": ("--x", "a\nb")},
    ],
    ids=str,
)
def test_a_sound_profile_has_no_complaint(keys: dict[str, object]) -> None:
    assert complaints(sample(**keys)) == []


@pytest.mark.parametrize("kind", KV_TYPES)
def test_each_type_of_llama_servers_help_is_taken(kind: str) -> None:
    assert complaints(sample(kv=kind)) == []


@pytest.mark.parametrize(
    ("keys", "path", "words"),
    [
        ({"kv": "q6_k"}, ("kv",), "expected one of f32"),
        ({"kv": KvTypes(k="q6_k", v="q6_k")}, ("kv", "k"), 'got "q6_k"'),
        ({"kv": KvTypes(k="q8_0", v="q4_0")}, ("kv",), "allow_mixed_kv: true"),
        ({"kv": "q8_0", "flash_attn": "off"}, ("flash_attn",), "say flash_attn: on"),
        ({"group": "GPU"}, ("group",), 'got "GPU"'),
        ({"group": "none"}, ("port",), "say port: 12400"),
        ({"port": 12400}, ("port",), "only residents have one"),
        ({"batch": 256, "ubatch": 512}, ("ubatch",), "512 is more than batch, 256"),
        ({"draft": "fast"}, ("draft",), "expected off, auto, mtp, ngram"),
        ({"stop_timeout": "0s"}, ("stop_timeout",), "expected 6s to 1h, got 0s"),
        ({"stop_timeout": "5s"}, ("stop_timeout",), "expected 6s to 1h, got 5s"),
        ({"stop_timeout": "61m"}, ("stop_timeout",), "expected 6s to 1h, got 61m"),
        ({"model": "a\0b"}, ("model",), "NUL"),
        ({"mmproj": "a\0b"}, ("mmproj",), "NUL"),
        ({"draft": "a\0b.gguf"}, ("draft",), "NUL"),
        ({"args": ("ok", "a\0b")}, ("args", 1), "NUL"),
        ({"env": {"A-B": 1}}, ("env", "A-B"), "no name systemd takes"),
        ({"env": {"1A": 1}}, ("env", "1A"), "no name systemd takes"),
        ({"env": {"A": "\x1b[0m"}}, ("env", "A"), "control character"),
        ({"env": {"A": "a\x7fb"}}, ("env", "A"), "control character"),
        ({"env": {"A": "a\rb"}}, ("env", "A"), "control character"),
        ({"draft": Draft(model="a\0b.gguf")}, ("draft", "model"), "NUL"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_at_its_key(
    keys: dict[str, object], path: tuple[str | int, ...], words: str
) -> None:
    found = complaints(sample(**keys))
    assert [where for where, _ in found][:1] == [path]
    assert words in found[0][1]


def test_one_mistake_is_told_once() -> None:
    assert len(complaints(sample(kv="q6_k"))) == 1


def test_all_rules_are_asked() -> None:
    found = complaints(sample(kv="x", group="none", draft="y", env={"-": 1}))
    assert {where[0] for where, _ in found} == {"kv", "port", "draft", "env"}
