"""draft: in plans and units: the right one is found, and it costs the model nothing that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support import cards as real
from support.heads import write_head
from support.small import TOKENS, small
from support.world import DATA

if TYPE_CHECKING:
    from support.commandline import CommandLine

ONE = ("--device", "CUDA0:8GiB")
TWO = (*ONE, "--device", "CUDA1:8GiB")
CPU_ONLY = ("--device", "RAM:8GiB")
SHORT = [*TOKENS[:700], "other", *TOKENS[701:]]


@pytest.fixture
def big(llmctl: CommandLine) -> CommandLine:
    """A profile `big` with `draft: auto`; models_dir holds nothing else that is a model."""
    llmctl.profile("big", "draft: auto\nctx: 4096\n")
    for name in ("coder", "gemma4"):
        (llmctl.config_dir / f"profiles/{name}.yaml").unlink()
        (llmctl.home / f"models/{name}-Q4_K_M.gguf").unlink()
    (llmctl.config_dir / "config.yaml").write_text(f"models_dir: {llmctl.home}/models\n")
    put(llmctl, "big-Q4_K_M", layers=40)
    return llmctl


def put(llmctl: CommandLine, name: str, *, layers: int = 1, **keys: Any) -> str:
    path = llmctl.home / f"models/{name}.gguf"
    write_head(path, small(layers=layers, **keys))
    return str(path)


def planned(llmctl: CommandLine, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = llmctl("plan", "big", *(words or ONE), "--json").json
    return found


def drafts(llmctl: CommandLine, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = planned(llmctl, *words)["draft"]
    return found


def test_the_smallest_with_the_same_tokens_is_found(big: CommandLine) -> None:
    put(big, "a-stranger", tokenizer__ggml__tokens=SHORT)
    put(big, "larger", layers=2)
    wanted = put(big, "pub/model/draft", ctx=4096)
    found = drafts(big)
    assert found["model"] == wanted
    assert found["reason"] == "the smallest model in models_dir with its vocabulary"
    assert found["words"] == [
        *("-md", wanted, "--spec-type", "draft-simple", "--spec-draft-n-max", "3"),
        *("-ctkd", "f16", "-ctvd", "f16", "-ngld", "2"),
    ]
    facts = planned(big)
    assert facts["args"][-len(found["words"]) :] == found["words"]
    assert facts["devices"][0]["draft_bytes"] > 1_000_000
    said = big("plan", "big", *ONE)
    assert f"draft: {wanted}: the smallest model" in said.stdout


def test_of_several_devices_one_is_named(big: CommandLine) -> None:
    put(big, "draft")
    words = drafts(big, *TWO)["words"]
    home = words[words.index("-devd") + 1]
    needs = {one["name"]: one["draft_bytes"] for one in planned(big, *TWO)["devices"]}
    assert needs.pop(home) > 0
    assert set(needs.values()) == {0}


def test_without_devices_it_is_in_memory_too(big: CommandLine) -> None:
    path = put(big, "draft")
    facts = planned(big, *CPU_ONLY)
    assert facts["draft"]["model"] == path
    assert {"-devd", "-ngld"}.isdisjoint(facts["draft"]["words"])
    assert facts["host"]["draft_bytes"] > 1_000_000


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("stranger", {"tokenizer__ggml__tokens": SHORT}),
        ("projector", {"general__type": "mmproj"}),
        ("embedding", {"llama__pooling_type": 3}),
        ("eagle", {"general__architecture": "eagle3"}),
        ("part-00002-of-00002", {}),
        ("part-00001-of-00002", {}),
    ],
)
def test_what_cannot_draft_is_not_taken(big: CommandLine, name: str, keys: dict[str, Any]) -> None:
    put(big, name, **keys)
    assert drafts(big)["model"] is None
    right = put(big, "zzz")
    assert drafts(big)["model"] == right


def test_the_reason_for_none_is_told(big: CommandLine) -> None:
    assert drafts(big)["reason"] == "there is no smaller model in models_dir"
    for n in range(3):
        put(big, f"m{n}", tokenizer__ggml__tokens=SHORT)
    reason = "no model of the 3 smaller ones in models_dir has its vocabulary"
    assert drafts(big)["reason"] == reason
    assert f"draft: none: {reason}" in big("plan", "big", *ONE).stdout
    large = put(big, "nearly-as-large", layers=20)
    assert drafts(big)["reason"] == (
        f"{large} has its vocabulary, but is too large to make it faster"
    )


def test_layers_of_the_model_itself_come_first(big: CommandLine) -> None:
    put(big, "big-Q4_K_M", layers=40, mtp=1)
    put(big, "draft")
    found = drafts(big)
    assert (found["model"], found["reason"]) == (
        None, "the model has next-token layers of its own",
    )  # fmt: skip
    assert found["words"][:4] == ["--spec-type", "draft-mtp", "--spec-draft-n-max", "3"]
    assert planned(big)["devices"][0]["draft_bytes"] > 0


# Never at the price of the model


def test_it_never_costs_the_model_a_layer(big: CommandLine) -> None:
    draft = put(big, "draft", layers=4)
    alone = big("plan", str(big.home / "models/big-Q4_K_M.gguf"), *ONE, "--ctx", "4096", "--json")
    need = alone.json["devices"][0]
    most = need["total_need_bytes"] + need["compute_error_bytes"]
    total = 1 << 40
    tight = ("--device", f"CUDA0:{total}:{most + (1 << 20)}")
    found = planned(big, *tight)
    assert found["draft"]["model"] is None
    assert found["draft"]["reason"] == f"{draft} would push layers of the model to the CPU"
    assert found["devices"][0]["draft_bytes"] == 0
    assert found["args"][found["args"].index("-ngl") + 1] == "41"
    roomy = ("--device", f"CUDA0:{total}:{most + (200 << 20)}")
    assert planned(big, *roomy)["draft"]["model"] == draft


def test_a_draft_that_is_named_is_counted_whatever_it_costs(big: CommandLine) -> None:
    draft = put(big, "draft", layers=4)
    big.profile("named", "draft: draft.gguf\nctx: 4096\nkv: q8_0\n")
    put(big, "named-Q4_K_M", layers=40)
    facts = big("plan", "named", *ONE, "--json").json
    assert facts["draft"]["model"] == draft
    assert facts["draft"]["reason"] == "the profile names it"
    assert facts["draft"]["words"][6:10] == ["-ctkd", "q8_0", "-ctvd", "q8_0"]
    small_card = ("--device", f"CUDA0:{1 << 40}:{40 << 20}")
    said = big("plan", "named", *small_card, "--json").json
    assert "-devd none" in " ".join(said["draft"]["words"])
    assert any("The draft model is on the CPU" in one for one in said["warnings"])


def test_what_does_not_fit_with_a_draft_would_without(big: CommandLine) -> None:
    put(big, "draft", layers=8)
    text = "draft: draft.gguf\nctx: 4096\ngpu_layers: all\n"
    big.profile("named", text)
    put(big, "named-Q4_K_M", layers=40)
    path = str(big.home / "models/named-Q4_K_M.gguf")
    need = big("plan", path, *ONE, "--ctx", "4096", "--json").json
    most, host = (
        one["total_need_bytes"] + one["compute_error_bytes"] + (1 << 20)
        for one in (need["devices"][0], need["host"])
    )
    tight = ("--device", f"CUDA0:{1 << 40}:{most}", "--device", f"RAM:{1 << 40}:{host}")
    said = big("plan", "named", *tight, "--json")
    assert said.status == 4
    assert said.json["remedies"][0] == "draft: off"


def test_a_draft_for_another_vocabulary_is_an_error_with_the_reason(big: CommandLine) -> None:
    path = put(big, "stranger", tokenizer__ggml__tokens=SHORT)
    big.profile("named", "draft: stranger.gguf\n")
    put(big, "named-Q4_K_M", layers=40)
    said = big("plan", "named", *ONE)
    assert said.status == 3
    assert f"{path} cannot draft for this model" in said.stderr
    assert 'token 700 is "other", and "t700" in the model' in said.stderr


def test_a_build_that_translates_is_only_warned_of(big: CommandLine) -> None:
    put(big, "stranger", tokenizer__ggml__tokens=SHORT)
    big.program(
        "llama-server",
        "echo '--port N  p'; echo '-md FILE  draft'; echo '--spec-replace A B  words'",
    )
    big.profile("named", "draft: stranger.gguf\n")
    put(big, "named-Q4_K_M", layers=40)
    said = big("plan", "named", *ONE, "--json")
    assert said.status == 0
    assert any("llama-server translates" in one for one in said.json["warnings"])


def test_mtp_without_such_layers_is_an_error(big: CommandLine) -> None:
    big.profile("named", "draft: mtp\n")
    put(big, "named-Q4_K_M", layers=40)
    said = big("plan", "named", *ONE)
    assert said.status == 3
    assert "the model's file has no next-token layers" in said.stderr


def test_more_drafted_tokens_keep_more_logits(big: CommandLine) -> None:
    sizes = []
    for text in ("off", "ngram", "{model: draft.gguf, n_max: 8}"):
        put(big, "draft")
        big.profile("named", f"draft: {text}\nctx: 4096\n")
        put(big, "named-Q4_K_M", layers=40)
        facts = big("plan", "named", *ONE, "--json").json
        sizes.append(facts["host"]["output_bytes"])
    assert sizes == [4 * len(TOKENS) * n for n in (1, 65, 9)]


# Units


@pytest.fixture
def served(big: CommandLine) -> CommandLine:
    """A llama-server with two cards."""
    big.program("nvidia-smi", "exit 6")
    (big.home / "devices").write_text(real.CUDA)
    big.program(
        "llama-server",
        f"""case "$1" in
--version) echo "version: 0.7.0 (build 11669, commit x)";;
--list-devices) cat '{big.home}/devices';;
*) cat '{DATA / "llama-server-help-0.7.0.txt"}';;
esac""",
    )
    return big


def unit(llmctl: CommandLine) -> str:
    text = (llmctl.unit_dir / "llm-big.service").read_text()
    return " ".join(text.replace("\\\n", " ").split())


def test_a_unit_carries_the_draft_and_follows_models_dir(served: CommandLine) -> None:
    put(served, "stranger", tokenizer__ggml__tokens=SHORT)
    served("apply")
    assert " -md " not in unit(served)
    assert served("apply", "--check").status == 0
    path = put(served, "draft")
    assert served("list", "--json").json[0]["stale"] is True
    served("apply")
    text = unit(served)
    assert f"-md {path} --spec-type draft-simple --spec-draft-n-max 3 " in text
    assert " -devd CUDA" in text
    put(served, "much-larger", layers=80)  # which cannot be a draft
    assert served("apply", "--check").status == 0
    (served.home / "models/draft.gguf").unlink()
    served("apply")
    assert " -md " not in unit(served)


def test_show_says_what_was_found_and_why(served: CommandLine) -> None:
    shown = served("show", "big", "--json").json
    reason = "there is no smaller model in models_dir"
    assert shown["draft"] == {"model": None, "reason": reason, "words": []}
    assert shown["values"]["draft"] == {"value": "off", "from": f"auto: {reason}"}
    path = put(served, "draft")
    shown = served("show", "big", "--json").json
    assert shown["values"]["draft"]["value"] == path
    assert shown["args"].count("-md") == 1


def test_a_draft_that_cannot_be_breaks_the_unit_and_not_the_others(served: CommandLine) -> None:
    put(served, "stranger", tokenizer__ggml__tokens=SHORT)
    served.profile("named", "draft: stranger.gguf\n")
    put(served, "named-Q4_K_M", layers=40)
    for command in ("show", "render", "switch"):
        said = served(command, "named")
        assert said.status == 3
        assert "profiles/named.yaml: draft: " in said.stderr
    served("apply")
    assert (served.unit_dir / "llm-big.service").exists()
    assert not (served.unit_dir / "llm-named.service").exists()


def test_other_drafts_do_not_look_into_models_dir(served: CommandLine) -> None:
    served.profile("big", "draft: ngram\nctx: 4096\n")
    put(served, "big-Q4_K_M", layers=40)
    served("apply")
    put(served, "draft")
    assert served("apply", "--check").status == 0
    assert "--spec-type ngram-mod" in unit(served)
