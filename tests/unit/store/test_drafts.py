"""Which models on a box are smaller than another, and why one cannot draft for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.fakes import FakeHost
from support.heads import write_head
from support.small import TOKENS, small

from llmctl.store import smaller
from llmctl.store.drafts import heads, why_apart
from llmctl.store.heads import head_of
from llmctl.store.smaller import smaller_models

if TYPE_CHECKING:
    from pathlib import Path

CACHE = "/cache"


def names(host: FakeHost, target: str = "/m/target.gguf") -> list[str]:
    return [one.path.removeprefix("/m/") for one in smaller_models(host, "/m", target)]


@pytest.fixture
def host() -> FakeHost:
    made = FakeHost()
    made.put("/m/target.gguf", b"x" * 100)
    return made


def test_the_smallest_comes_first_and_among_equals_the_name(host: FakeHost) -> None:
    for name, size in (("b", 10), ("a", 10), ("pub/model/c", 5), ("large", 100), ("z", 99)):
        host.put(f"/m/{name}.gguf", b"x" * size)
    host.put("/m/readme.md", b"x")
    assert names(host) == ["pub/model/c.gguf", "a.gguf", "b.gguf", "z.gguf"]


def test_a_split_model_is_as_large_as_all_its_parts(host: FakeHost) -> None:
    for part in (1, 2):
        host.put(f"/m/whole-0000{part}-of-00002.gguf", b"x" * 40)
        host.put(f"/m/large-0000{part}-of-00002.gguf", b"x" * 60)
    host.put("/m/lacking-00001-of-00002.gguf", b"x")
    host.put("/m/later-00002-of-00002.gguf", b"x")
    assert names(host) == ["whole-00001-of-00002.gguf"]
    host.put("/m/huge-00001-of-00002.gguf", b"x" * 10)
    host.put("/m/huge-00002-of-00002.gguf", b"x" * 200)
    assert "target.gguf" in names(host, "/m/huge-00001-of-00002.gguf")


def test_a_target_that_is_not_there_has_no_smaller_ones(host: FakeHost) -> None:
    host.put("/m/a.gguf", b"x")
    assert names(host, "/m/none.gguf") == []


def test_what_is_looked_at_is_bounded(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put("/m/1/2/deep.gguf", b"x")
    host.put("/m/1/2/3/deeper.gguf", b"x")
    host.put("/m/.hidden/a.gguf", b"x")
    assert names(host) == ["1/2/deep.gguf"]
    monkeypatch.setattr(smaller, "MOST_DIRS", 2)
    assert names(host) == []
    host.put("/m/a.gguf", b"xx")
    host.put("/m/b.gguf", b"x")
    monkeypatch.setattr(smaller, "MOST_MODELS", 1)
    assert names(host) == ["b.gguf"]


def test_a_directory_that_cannot_be_read_is_passed_over(host: FakeHost) -> None:
    host.put("/m/a.gguf", b"x")
    host.put("/m/closed/b.gguf", b"x")
    host.failing["/m/closed"] = "Permission denied"
    assert names(host) == ["a.gguf"]


def model(host: FakeHost, tmp_path: Path, name: str, **metadata: Any) -> str:
    """A model's file on the host, with what its metadata says otherwise."""
    write_head(tmp_path / name, small(layers=1, **metadata))
    host.put(f"/m/{name}", (tmp_path / name).read_bytes())
    return f"/m/{name}"


DIFFERENT = [*TOKENS[:700], "other", *TOKENS[701:]]


@pytest.mark.parametrize(
    ("draft", "target", "why"),
    [
        ({}, {}, None),
        ({"tokenizer__ggml__tokens": DIFFERENT}, {},
         'it has another vocabulary: token 700 is "other", and "t700" in the model'),
        ({"tokenizer__ggml__tokens": ["other", *TOKENS[1:]]}, {}, None),  # before token 5
        ({"tokenizer__ggml__tokens": TOKENS[:-128]}, {}, None),
        ({"tokenizer__ggml__tokens": TOKENS[:-129]}, {}, "it has 871 tokens and the model 1000"),
        ({"tokenizer__ggml__model": "llama"}, {},
         "it has a vocabulary of another kind (SPM, not BPE)"),
        ({"tokenizer__ggml__model": "gemma4"}, {"tokenizer__ggml__add_bos_token": True}, None),
        ({"tokenizer__ggml__add_bos_token": True}, {},
         "it does not begin texts with the same token"),
        ({"tokenizer__ggml__add_bos_token": True}, {"tokenizer__ggml__pre": "llama-bpe"}, None),
        ({"tokenizer__ggml__bos_token_id": 7}, {}, None),  # nobody adds it
        ({"tokenizer__ggml__bos_token_id": 7}, {"tokenizer__ggml__pre": "llama-bpe"},
         "it does not begin texts with the same token"),
        ({"tokenizer__ggml__pre": "tekken", "tokenizer__ggml__bos_token_id": 7},
         {"tokenizer__ggml__pre": "llama-bpe"}, "it does not begin texts with the same token"),
        ({"tokenizer__ggml__eos_token_id": 7}, {"tokenizer__ggml__eos_token_id": 8}, None),
        ({"tokenizer__ggml__add_eos_token": True, "tokenizer__ggml__eos_token_id": 7},
         {"tokenizer__ggml__add_eos_token": True, "tokenizer__ggml__eos_token_id": 8},
         "it does not end texts with the same token"),
        ({"tokenizer__ggml__model": "t5"}, {"tokenizer__ggml__model": "t5"}, None),
    ],
)  # fmt: skip
def test_who_may_draft_for_whom(
    host: FakeHost, tmp_path: Path, draft: dict[str, Any], target: dict[str, Any], why: str
) -> None:
    pair = [model(host, tmp_path, "d.gguf", **draft), model(host, tmp_path, "t.gguf", **target)]
    first, second = (head_of(host, path, cache_dir=CACHE) for path in pair)
    assert why_apart(host, pair[0], first, pair[1], second) == why


def test_heads_that_cannot_be_read_are_passed_over(host: FakeHost, tmp_path: Path) -> None:
    good = model(host, tmp_path, "good.gguf")
    host.put("/m/short.gguf", (tmp_path / "good.gguf").read_bytes()[:-100])
    host.put("/m/broken.gguf", b"GGUF")
    host.put("/m/target.gguf", b"x" * 10_000_000)
    found = smaller_models(host, "/m", "/m/target.gguf")
    assert len(found) == 3
    assert [path for path, _ in heads(host, found, cache_dir=CACHE)] == [good]
