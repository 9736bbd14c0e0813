"""llmctl new: what is written, and what is refused."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from support.heads import write_head
from support.world import DATA
from unit.cli.test_scan import model, small

from llmctl.core.document import parse_yaml
from llmctl.core.profile import Profile, parse_profile

if TYPE_CHECKING:
    from pathlib import Path

    from support.commandline import CommandLine, Said

GPU = "Available devices:\n  CUDA0: NVIDIA GeForce RTX 5060 Ti (16311 MiB, 16000 MiB free)\n"


@pytest.fixture
def new(llmctl: CommandLine) -> CommandLine:
    """A box with a GPU of 16 GiB, 24 GiB of memory, and one model: coder-30b.gguf."""
    llmctl.program("nvidia-smi", "exit 6")
    llmctl.program(
        "llama-server",
        f"""case "$1" in --version) echo "version: 0.7.0 (build 11669, commit x)";;
--help) cat '{DATA / "llama-server-help-0.7.0.txt"}';;
*) cat <<'END'
{GPU}END
;; esac""",
    )
    config = "devices: {RAM: {total: 24GiB, free: 24GiB}}\n"
    (llmctl.config_dir / "config.yaml").write_text(config)
    sampling = {"general__sampling__temp": 0.7, "general__sampling__top_k": 20}
    write_head(llmctl.home / "models/coder-30b.gguf", model("qwen3_30b", **sampling))
    return llmctl


def path_of(llmctl: CommandLine, name: str) -> Path:
    return llmctl.config_dir / f"profiles/{name}.yaml"


def written(llmctl: CommandLine, name: str) -> Profile:
    text = path_of(llmctl, name).read_text("utf-8")
    return parse_profile(parse_yaml(text, file=name), name=name, file=name)


def refused(said: Said, status: int, *words: str) -> None:
    assert (said.status, said.stdout) == (status, "")
    for word in (*words, "hint: "):
        assert word in said.stderr, said.stderr


def test_a_profile_is_written_that_apply_takes(new: CommandLine) -> None:
    said = new("new", "c30", "coder-30b.gguf")
    assert said.status == 0
    lines = said.stdout.splitlines()
    assert lines[0] == f"wrote {path_of(new, 'c30')}"
    assert lines[1].startswith("plan: ctx ")
    assert "  llmctl switch c30  # serve it now" in lines
    assert "  llmctl apply c30   # only install its unit" in lines
    found = written(new, "c30")
    assert (found.model, found.binary, found.group) == ("coder-30b.gguf", "upstream", "gpu")
    assert (found.ctx, found.kv, found.gpu_layers) == ("auto", "f16", "auto")
    assert (found.sampling.temperature, found.sampling.top_k) == (0.7, 20)
    assert stat.S_IMODE(path_of(new, "c30").stat().st_mode) == 0o644
    assert new("apply", "c30").status == 0
    assert new("apply", "c30", "--check").status == 0
    shown = new("show", "c30", "--json").json
    planned = new("new", "other", "coder-30b.gguf", "--dry-run", "--json").json
    assert shown["not_planned"] is None
    assert shown["values"]["ctx"]["value"] == planned["ctx"]


def test_the_comments_say_what_is_planned(new: CommandLine) -> None:
    new("new", "c30", "coder-30b.gguf")
    text = path_of(new, "c30").read_text()
    planned = new("plan", "c30", "--json").json
    assert f"# {planned['ctx']} of the 262144 it was trained for; a number pins it" in text
    assert "layers on the CPU\n" in text
    assert "CUDA0 with 15.2 GiB" in text


def test_a_dry_run_prints_what_would_be_written(new: CommandLine) -> None:
    said = new("new", "c30", "coder-30b.gguf", "--dry-run")
    assert not path_of(new, "c30").exists()
    new("new", "c30", "coder-30b.gguf")
    assert said.stdout == path_of(new, "c30").read_text()


def test_json_has_all_of_it(new: CommandLine) -> None:
    facts = new("new", "c30", "coder-30b.gguf", "--json").json
    assert (facts["profile"], facts["written"], facts["fits"]) == ("c30", True, True)
    assert facts["path"] == str(path_of(new, "c30"))
    assert facts["text"] == path_of(new, "c30").read_text()
    assert facts["values"]["ctx"] == "auto"
    assert facts["args"][:2] == ["-c", str(facts["ctx"])]
    assert facts["next"] == ["llmctl switch c30", "llmctl apply c30"]
    dry = new("new", "d30", "coder-30b.gguf", "--json", "--dry-run").json
    assert (dry["written"], path_of(new, "d30").exists()) == (False, False)


def test_the_directory_of_profiles_is_made(new: CommandLine) -> None:
    for one in (new.config_dir / "profiles").iterdir():
        one.unlink()
    (new.config_dir / "profiles").rmdir()
    assert new("new", "c30", "coder-30b.gguf").status == 0
    assert written(new, "c30").name == "c30"


def test_values_may_be_given(new: CommandLine) -> None:
    config = (new.config_dir / "config.yaml").read_text()
    more = "groups: {gpu: {port: 12340}, cpu: {port: 12350}}\nbinaries: {b: llama-server}\n"
    (new.config_dir / "config.yaml").write_text(config + more)
    words = ["--ctx", "8192", "--kv", "q8_0", "--group", "cpu", "--binary", "b"]
    assert new("new", "c30", "coder-30b.gguf", *words).status == 0
    found = written(new, "c30")
    assert (found.ctx, found.kv, found.group, found.binary) == (8192, "q8_0", "cpu", "b")
    text = path_of(new, "c30").read_text()
    assert "ctx: 8192           # tokens; it was trained for 262144\n" in text
    new("new", "beside", "coder-30b.gguf", "--group", "none", "--port", "12400", "--kv", "f16,f16")
    found = written(new, "beside")
    assert (found.group, found.port, found.kv_types.v) == ("none", 12400, "f16")


def test_the_binary_is_the_one_there_is(new: CommandLine) -> None:
    config = (new.config_dir / "config.yaml").read_text()
    (new.config_dir / "config.yaml").write_text(config + "binaries: {vulkan: llama-server}\n")
    new("new", "c30", "coder-30b.gguf")
    assert written(new, "c30").binary == "vulkan"


def test_the_group_is_the_one_there_is(new: CommandLine) -> None:
    config = (new.config_dir / "config.yaml").read_text()
    (new.config_dir / "config.yaml").write_text(config + "groups: {fast: {port: 12340}}\n")
    new("new", "c30", "coder-30b.gguf")
    assert written(new, "c30").group == "fast"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ctx", "100"], "ctx: expected a whole number of tokens (at least 256), or auto"),
        (["--ctx", "many"], "ctx: expected"), (["--kv", "q9"], 'kv: expected one of'),
        (["--kv", "q8_0,f16"], "k is q8_0 and v is f16"), (["--binary", "nix"], "config.yaml has"),
        (["--group", "cpu"], "cpu is not a group"), (["--group", "none"], "port: missing"),
        (["--port", "12400"], "only residents"),
        (["--group", "none", "--port", "12340"], "12340 is group gpu's"),
    ],
)  # fmt: skip
def test_what_a_profile_may_not_say_is_status_3(
    new: CommandLine, words: list[str], says: str
) -> None:
    said = new("new", "c30", "coder-30b.gguf", *words)
    assert (said.status, said.stdout) == (3, "")
    assert says in said.stderr
    assert not path_of(new, "c30").exists()


# Files


@pytest.mark.parametrize("where", ["absolute", "cwd", "parent", "home", "models_dir"])
def test_a_file_is_found_and_written_relative_to_models_dir(
    new: CommandLine, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = new.home / "models/sub/x.gguf"
    write_head(path, model("llama31_8b"))
    monkeypatch.chdir(path.parent if where in ("cwd", "parent") else new.home)
    given = {
        "absolute": str(path), "cwd": "x.gguf", "parent": "../sub/./x.gguf",
        "home": "~/models/sub/x.gguf", "models_dir": "sub/x.gguf",
    }[where]  # fmt: skip
    assert new("new", "x", given).status == 0
    assert written(new, "x").model == "sub/x.gguf"


def test_what_is_not_below_models_dir_is_written_in_full(
    new: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = new.home / "else where/é #1.gguf"
    write_head(path, model("llama31_8b"))
    monkeypatch.chdir(path.parent)
    assert new("new", "x", path.name).status == 0
    assert written(new, "x").model == str(path)


def test_a_link_to_models_dir_counts_as_it(
    new: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (new.home / "models").rename(new.home / "disk")
    (new.home / "models").symlink_to("disk")
    monkeypatch.chdir(new.home / "models")
    monkeypatch.setenv("PWD", str(new.home / "models"))
    assert new("new", "x", "coder-30b.gguf").status == 0
    assert written(new, "x").model == "coder-30b.gguf"
    monkeypatch.setenv("PWD", "/")  # a stale one
    assert new("new", "y", "coder-30b.gguf").status == 0
    assert written(new, "y").model == str(new.home / "disk/coder-30b.gguf")


def test_a_directory_called_as_home_is_no_home(new: CommandLine) -> None:
    write_head(new.home / "models/~/x.gguf", model("llama31_8b"))
    new("new", "x", str(new.home / "models/~/x.gguf"))
    assert written(new, "x").model == str(new.home / "models/~/x.gguf")


def test_a_missing_file_has_near_names_as_a_hint(new: CommandLine) -> None:
    write_head(new.home / "models/Qwen/Qwen3-8B-Q4_K_M.gguf", model("llama31_8b"))
    said = new("new", "x", "qwen3-8b-q4_k_s.gguf")
    refused(said, 3, "there is no file ", "Did you mean Qwen/Qwen3-8B-Q4_K_M.gguf")
    refused(new("new", "x", "/zzz"), 3, "there is no file /zzz.", "llmctl scan")


def test_what_is_no_model_is_refused(new: CommandLine) -> None:
    models = new.home / "models"
    write_head(models / "mmproj.gguf", small("clip"))
    write_head(models / "lora.gguf", small("llama", general__type="adapter"))
    write_head(models / "flux.gguf", small("flux"))
    write_head(models / "eagle.gguf", small("eagle3"))
    (models / "text.gguf").write_text("not a model at all")
    (models / "empty.gguf").write_bytes(b"")
    refused(new("new", "x", "mmproj.gguf"), 3, "is a projector", f"mmproj: {models}/mmproj.gguf")
    refused(new("new", "x", "lora.gguf"), 3, "is an adapter", "--lora")
    refused(new("new", "x", "eagle.gguf"), 3, "drafter", "draft: ")
    refused(new("new", "x", "flux.gguf"), 3, "no model that llama-server serves", "flux")
    refused(new("new", "x", str(models)), 3, "is a directory", f"llmctl scan {models}")
    for name, says in (("text.gguf", "is not GGUF"), ("empty.gguf", "is empty")):
        said = new("new", "x", name)
        assert (said.status, said.stdout) == (3, "")
        assert says in said.stderr
    assert not path_of(new, "x").exists()


def test_of_a_split_model_the_first_part_is_wanted(new: CommandLine) -> None:
    models = new.home / "models"
    one = model("llama31_8b", split__count=2, split__no=0)
    half = len(one["tensors"]) // 2
    write_head(models / "m-00001-of-00002.gguf", {**one, "tensors": one["tensors"][:half]})
    refused(new("new", "x", "m-00001-of-00002.gguf"), 3, "00002-of-00002.gguf is missing")
    rest = {"metadata": {"split.count": 2, "split.no": 1}, "tensors": one["tensors"][half:]}
    write_head(models / "m-00002-of-00002.gguf", rest)
    first = f"llmctl new x {models}/m-00001-of-00002.gguf"
    refused(new("new", "x", "m-00002-of-00002.gguf"), 3, "is part 2 of 2", first)
    write_head(models / "renamed.gguf", {**rest, "metadata": {"split.no": 1}})
    refused(new("new", "x", "renamed.gguf"), 3, "a further part")
    assert new("new", "x", "m-00001-of-00002.gguf").status == 0


def test_a_file_that_was_cut_short_must_be_forced(new: CommandLine) -> None:
    path = new.home / "models/coder-30b.gguf"
    os.truncate(path, path.stat().st_size - 1000)
    refused(new("new", "x", "coder-30b.gguf"), 3, "1000 bytes are missing", "--force")
    said = new("new", "x", "coder-30b.gguf", "--force")
    assert said.status == 0
    assert "1000 bytes" in said.stderr


# Names


def test_a_profile_is_never_overwritten(new: CommandLine) -> None:
    before = path_of(new, "coder").read_text()
    for words in ([], ["--force"], ["--dry-run"]):
        said = new("new", "coder", "coder-30b.gguf", *words)
        refused(said, 3, "there is a profile coder already", f"rm {path_of(new, 'coder')}")
    assert path_of(new, "coder").read_text() == before


def test_an_alias_is_taken_too(new: CommandLine) -> None:
    new.profile("gemma4", "aliases: [storm]\n")
    refused(new("new", "storm", "coder-30b.gguf"), 3, "storm is an alias of the profile gemma4")


@pytest.mark.parametrize("name", ["Coder", "a b", "../x", "-x", "", "a" * 65])
def test_a_name_must_be_one(new: CommandLine, name: str) -> None:
    said = new("new", "--", name, "coder-30b.gguf")
    refused(said, 3, "is no profile name", "Choose another name.")


def test_a_unit_of_somebody_else_is_seen(new: CommandLine) -> None:
    new.unit_dir.mkdir(parents=True)
    (new.unit_dir / "llm-mine.service").write_text("[Service]\nExecStart=/bin/true\n")
    refused(new("new", "mine", "coder-30b.gguf"), 3, "was not written by llmctl")


# What fits


def test_what_does_not_fit_is_not_written(new: CommandLine) -> None:
    write_head(new.home / "models/big.gguf", model("gptoss120"))
    refused(new("new", "big", "big.gguf"), 4, "does not fit: ", "RAM: ", "--force")
    assert not path_of(new, "big").exists()
    said = new("new", "big", "big.gguf", "--force")
    assert said.status == 0
    assert "plan: it does not fit: " in said.stdout
    assert "It did not fit when this was written" in path_of(new, "big").read_text()
    assert new("new", "b2", "big.gguf", "--force", "--json").json["fits"] is False


def test_what_would_fit_is_told(new: CommandLine) -> None:
    write_head(new.home / "models/dense.gguf", model("qwen3_32b"))
    said = new("new", "x", "dense.gguf", "--ctx", "262144")
    refused(said, 4, "ctx: ")
    told = new("new", "x", "dense.gguf", "--ctx", "262144", "--json")
    assert (told.status, told.json["error"]["status"]) == (4, 4)


def test_without_a_llama_server_it_is_written_all_the_same(new: CommandLine) -> None:
    (new.home / "bin/llama-server").unlink()
    said = new("new", "c30", "coder-30b.gguf")
    assert said.status == 0
    assert "plan: none yet" in said.stdout
    assert "It cannot be served yet: " in said.stderr
    assert "binaries: {upstream: /path/to/llama-server}" in said.stderr
    assert "llmctl plan c30" in path_of(new, "c30").read_text()
    assert written(new, "c30").ctx == "auto"
    facts = new("new", "d30", "coder-30b.gguf", "--json").json
    assert (facts["fits"], facts["ctx"]) == (None, None)
    assert "not an executable file" in facts["not_planned"]


def test_devices_that_do_not_answer_are_no_obstacle(new: CommandLine) -> None:
    new.program(
        "llama-server",
        f"case $1 in --help) cat '{DATA / 'llama-server-help-0.7.0.txt'}';; *) exit 1;; esac",
    )
    said = new("new", "c30", "coder-30b.gguf")
    assert said.status == 0
    assert "It is not planned yet: The devices are not known" in said.stderr


# What goes with it


def eyes(width: int, family: str = "") -> dict[str, Any]:
    keys = {"clip__vision__projection_dim": width, "general__basename": family}
    return small("clip", **{key: value for key, value in keys.items() if value})


def test_the_only_projector_that_fits_is_taken(new: CommandLine) -> None:
    folder = new.home / "models/g"
    write_head(folder / "gemma.gguf", model("gemma3_27b"))
    write_head(folder / "mmproj-other.gguf", eyes(1024))
    new("new", "none", "g/gemma.gguf")
    assert written(new, "none").mmproj is None
    assert (
        "# Not for this model, by width or family: mmproj-other.gguf"
        in path_of(new, "none").read_text()
    )
    write_head(folder / "mmproj-F16.gguf", eyes(5376))
    new("new", "one", "g/gemma.gguf")
    assert written(new, "one").mmproj == "mmproj-F16.gguf"
    assert f"--mmproj {folder}/mmproj-F16.gguf" in " ".join(
        new("show", "one", "--json").json["args"]
    )
    write_head(folder / "mmproj-BF16.gguf", eyes(5376))
    new("new", "two", "g/gemma.gguf")
    assert written(new, "two").mmproj is None
    text = path_of(new, "two").read_text()
    assert "# mmproj: mmproj-BF16.gguf\n# mmproj: mmproj-F16.gguf\n" in text


@pytest.mark.parametrize(
    ("pooling", "flag", "ubatch"), [(1, "--embedding", 8192), (3, "--embedding", 512),
                                    (4, "--reranking", 8192)],
)  # fmt: skip
def test_an_embedding_model_embeds(new: CommandLine, pooling: int, flag: str, ubatch: int) -> None:
    write_head(new.home / "models/e.gguf", model("llama31_8b", llama__pooling_type=pooling))
    assert new("new", "e", "e.gguf").status == 0
    found = written(new, "e")
    assert (found.args, found.ubatch) == ((flag,), ubatch)
    assert found.batch >= found.ubatch
    assert new("apply", "e").status == 0


def test_layers_that_predict_more_tokens_are_offered(new: CommandLine) -> None:
    write_head(new.home / "models/m.gguf", model("qwen36_27b", qwen35__nextn_predict_layers=1))
    said = new("new", "m", "m.gguf", "--dry-run")
    assert "\n# draft: mtp\n" in said.stdout


def test_further_sampling_is_named(new: CommandLine) -> None:
    keys = {"general__sampling__xtc_probability": 0.5, "general__sampling__top_p": 3.0}
    write_head(new.home / "models/s.gguf", model("llama31_8b", **keys))
    said = new("new", "s", "s.gguf", "--dry-run")
    assert "no key here: xtc_probability, top_p\n" in said.stdout
    assert "\nsampling: " not in said.stdout
