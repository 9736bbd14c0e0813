"""llmctl scan: what people and scripts read."""

from __future__ import annotations

import copy
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from support import cards as real
from support.heads import head_bytes, write_head
from support.oracle import oracle

if TYPE_CHECKING:
    from pathlib import Path

    from support.commandline import CommandLine

MIB, GIB = 1 << 20, 1 << 30
HEADER = ["FILE", "ARCH", "PARAMS", "QUANT", "SIZE", "CTX", "FITS", "PROFILES"]


def model(name: str, **more: Any) -> dict[str, Any]:
    """One of the oracle's models with other keys; `__` stands for a dot."""
    made: dict[str, Any] = copy.deepcopy(oracle()["models"][name])
    made["metadata"] |= {key.replace("__", "."): value for key, value in more.items()}
    return made


def small(architecture: str, **more: Any) -> dict[str, Any]:
    keys = {key.replace("__", "."): value for key, value in more.items()}
    metadata = {"general.architecture": architecture, **keys}
    return {"metadata": metadata, "tensors": [["a.weight", "f16", [32, 32]]]}


@pytest.fixture
def models(llmctl: CommandLine) -> Path:
    """models_dir, without files, on a box with a GPU of 16 GiB and 24 GiB of memory."""
    for path in (llmctl.home / "models").iterdir():
        path.unlink()
    gpu, rest = real.CUDA.split("\n  CUDA1")[0], "\n"
    assert "CUDA0" in gpu
    devices(llmctl, gpu + rest)
    return llmctl.home / "models"


def devices(llmctl: CommandLine, text: str) -> None:
    """Have llama-server list them, and note each question."""
    llmctl.program("nvidia-smi", "exit 6")
    llmctl.program(
        "llama-server",
        f"""echo "$1" >> '{llmctl.home}/asked'
case "$1" in --version) echo "version: 0.7.0 (build 11669, commit x)";; *)
cat <<'END'
{text}END
;; esac""",
    )
    config = "devices: {RAM: {total: 24GiB, free: 24GiB}}\n"
    (llmctl.config_dir / "config.yaml").write_text(config)


def rows(llmctl: CommandLine, *words: str) -> dict[str, dict[str, Any]]:
    return {one["file"]: one for one in llmctl("scan", *words, "--json").json["files"]}


def test_models_are_a_table_by_name(llmctl: CommandLine, models: Path) -> None:
    write_head(models / "qwen/coder-Q4_K_M.gguf", model("qwen3_30b", general__file_type=15))
    write_head(models / "llama.gguf", model("llama31_8b"))
    said = llmctl("scan")
    assert said.status == 0
    header, *lines = said.stdout.splitlines()
    assert header.split() == HEADER
    llama, coder = (line.split("  ") for line in lines)
    cells = [word.strip() for word in llama if word.strip()]
    assert cells[:4] == ["llama.gguf", "llama", "8.0B", "Q4_K"]
    assert cells[5] == "131072"
    assert cells[6].startswith("fits, ctx ")
    cells = [word.strip() for word in coder if word.strip()]
    assert cells[:6] == [
        "qwen/coder-Q4_K_M.gguf", "qwen3moe", "30.5B-A3.4B", "Q4_K_M", "16.1 GiB", "262144",
    ]  # fmt: skip
    assert cells[6].startswith("fits, ctx ")
    assert "experts of " in cells[6]
    assert "llmctl new NAME FILE" in said.stderr


def test_what_fits_is_what_plan_says(llmctl: CommandLine, models: Path) -> None:
    write_head(models / "coder.gguf", model("qwen3_30b"))
    one = rows(llmctl)["coder.gguf"]
    planned = llmctl("plan", str(models / "coder.gguf"), "--json").json
    assert one["fits"] is planned["fits"] is True
    assert one["plan"]["ctx"] == planned["ctx"]
    words = planned["args"]
    assert one["plan"]["gpu_layers"] == int(words[words.index("-ngl") + 1])
    assert (one["plan"]["layers"], one["plan"]["lacking_bytes"]) == (49, 0)
    assert one["plan"]["cpu_moe_layers"] > 0


def test_what_does_not_fit_is_too_much(llmctl: CommandLine, models: Path) -> None:
    write_head(models / "big.gguf", model("gptoss120"))
    one = rows(llmctl)["big.gguf"]
    assert (one["fits"], one["error"]) == (False, None)
    lacking = one["plan"]["lacking_bytes"]
    assert f"no: {lacking / GIB:.1f} GiB too much" in llmctl("scan").stdout


def test_devices_are_asked_once(llmctl: CommandLine, models: Path) -> None:
    for number in range(5):
        write_head(models / f"{number}.gguf", model("llama31_8b"))
    llmctl("scan")
    asked = (llmctl.home / "asked").read_text().split()
    assert (asked.count("--list-devices"), asked.count("--version")) == (1, 1)


def test_other_files_are_told_as_what_they_are(llmctl: CommandLine, models: Path) -> None:
    write_head(models / "mmproj.gguf", small("clip", clip__vision__projection_dim=4096))
    write_head(models / "lora.gguf", small("llama", general__type="adapter"))
    write_head(models / "imatrix.gguf", small("", general__type="imatrix"))
    write_head(models / "eagle.gguf", small("eagle3", eagle3__block_count=1))
    write_head(models / "flux.gguf", small("flux"))
    found = rows(llmctl)
    assert {name: one["kind"] for name, one in found.items()} == {
        "eagle.gguf": "draft", "flux.gguf": "other", "imatrix.gguf": "imatrix",
        "lora.gguf": "adapter", "mmproj.gguf": "projector",
    }  # fmt: skip
    assert {(one["fits"], one["error"]) for one in found.values()} == {(None, None)}
    text = llmctl("scan").stdout
    for word in ("drafts for another model", "not for llama-server", "adapter", "projector"):
        assert word in text
    assert "llmctl new" not in llmctl("scan").stderr


def test_an_embedding_model_is_told(llmctl: CommandLine, models: Path) -> None:
    write_head(models / "embed.gguf", model("llama31_8b", llama__pooling_type=3))
    assert "(embedding model)" in llmctl("scan").stdout


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "it is empty"), (b"GGUF", "the version"), (b"not a model at all", "not GGUF")],
)
def test_a_corrupt_file_is_a_row(
    llmctl: CommandLine, models: Path, content: bytes, says: str
) -> None:
    (models / "bad.gguf").write_bytes(content)
    write_head(models / "good.gguf", model("llama31_8b"))
    found = rows(llmctl)
    assert says in found["bad.gguf"]["error"]
    assert found["bad.gguf"]["architecture"] is None
    assert found["good.gguf"]["fits"] is True
    said = llmctl("scan")
    assert said.status == 0
    assert "warning: bad.gguf: " in said.stderr
    assert says in said.stderr


def test_metadata_that_make_no_model_are_a_row(llmctl: CommandLine, models: Path) -> None:
    write_head(models / "odd.gguf", model("llama31_8b", llama__block_count=100000))
    assert "block_count" in rows(llmctl)["odd.gguf"]["error"]


def test_a_file_that_was_cut_short_is_told(llmctl: CommandLine, models: Path) -> None:
    path = models / "cut.gguf"
    write_head(path, model("llama31_8b"))
    os.truncate(path, path.stat().st_size - 1000)
    one = rows(llmctl)["cut.gguf"]
    assert (one["missing_bytes"], one["fits"]) == (1000, None)
    assert "cut short: 1000 bytes" in one["error"]


def test_a_split_model_is_one_row(llmctl: CommandLine, models: Path) -> None:
    one = model("llama31_8b", split__count=2, split__no=0)
    half = len(one["tensors"]) // 2
    write_head(models / "m-00001-of-00002.gguf", {**one, "tensors": one["tensors"][:half]})
    rest = {"split.count": 2, "split.no": 1}
    parts = {"metadata": rest, "tensors": one["tensors"][half:]}
    write_head(models / "m-00002-of-00002.gguf", parts)
    (row,) = rows(llmctl).values()
    assert (row["file"], row["parts"], row["fits"]) == ("m-00001-of-00002.gguf", 2, True)
    whole = sum(path.stat().st_size for path in models.iterdir())
    assert (row["size_bytes"], row["parameters"]) == (whole, 8030261312)
    (models / "m-00002-of-00002.gguf").unlink()
    (row,) = rows(llmctl).values()
    assert row["error"] == "1 of 2 parts are missing: m-00002-of-00002.gguf"


def test_a_projector_beside_is_counted(llmctl: CommandLine, models: Path) -> None:
    write_head(models / "g/gemma.gguf", model("gemma3_27b"))
    alone = rows(llmctl)["g/gemma.gguf"]
    eyes = small("clip", clip__vision__projection_dim=5376)
    eyes["tensors"] = [["v.weight", "f16", [1024, 512 * 1024]]]
    write_head(models / "g/mmproj-F16.gguf", eyes)
    beside = rows(llmctl)["g/gemma.gguf"]
    assert (alone["mmproj"], beside["mmproj"]) == (None, "mmproj-F16.gguf")
    assert beside["plan"]["gpu_layers"] < alone["plan"]["gpu_layers"]
    assert ", with mmproj-F16.gguf" in llmctl("scan").stdout


def test_profiles_that_use_a_file_are_named(llmctl: CommandLine, models: Path) -> None:
    write_head(models / "coder-Q4_K_M.gguf", model("llama31_8b"))
    write_head(models / "gemma4-Q4_K_M.gguf", model("llama31_8b"))
    (models / "real").mkdir()
    (models / "gemma4-Q4_K_M.gguf").rename(models / "real/gemma4-Q4_K_M.gguf")
    (models / "gemma4-Q4_K_M.gguf").symlink_to("real/gemma4-Q4_K_M.gguf")
    path = llmctl.config_dir / "profiles/both.yaml"
    path.write_text(f"model: {models}/./real/../coder-Q4_K_M.gguf\ndraft: gemma4-Q4_K_M.gguf\n")
    (llmctl.config_dir / "profiles/broken.yaml").write_text("modell: x\n")
    assert {name: one["profiles"] for name, one in rows(llmctl).items()} == {
        "coder-Q4_K_M.gguf": ["both", "coder"],
        "gemma4-Q4_K_M.gguf": ["both", "gemma4"],
        "real/gemma4-Q4_K_M.gguf": ["both", "gemma4"],
    }
    assert "llmctl new" not in llmctl("scan").stderr


def test_without_a_llama_server_files_are_listed_all_the_same(
    llmctl: CommandLine, models: Path
) -> None:
    write_head(models / "a.gguf", model("llama31_8b"))
    (llmctl.home / "bin/llama-server").unlink()
    said = llmctl("scan", "--json")
    assert said.status == 0
    assert (said.json["binary"], said.json["files"][0]["fits"]) == (None, None)
    (warning,) = said.json["warnings"]
    assert "What fits is not known" in warning
    assert "binaries: {upstream: /path/to/llama-server}" in warning
    assert warning in llmctl("scan").stderr


def test_a_directory_may_be_named(
    llmctl: CommandLine, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_head(models / "sub/a.gguf", model("llama31_8b"))
    monkeypatch.chdir(models)
    for words in ([str(models / "sub")], ["sub/"], ["./sub/../sub"], ["~/models/sub"]):
        said = llmctl("scan", *words, "--json").json
        assert said["directory"] == str(models / "sub")
        assert [one["file"] for one in said["files"]] == ["a.gguf"]


def test_a_directory_without_models_says_what_to_type(llmctl: CommandLine, models: Path) -> None:
    said = llmctl("scan")
    assert (said.status, said.stdout) == (0, f"there are no GGUF files below {models}\n")
    assert "llmctl scan DIR" in said.stderr
    assert f"models_dir: DIR in {llmctl.config_dir}/config.yaml" in said.stderr
    assert llmctl("scan", "--json").json["files"] == []


def test_models_dir_that_is_not_there_is_status_3(llmctl: CommandLine, models: Path) -> None:
    models.rmdir()
    said = llmctl("scan")
    assert (said.status, said.stdout) == (3, "")
    assert f"There is no directory {models}" in said.stderr
    assert f"mkdir -p {models}" in said.stderr


@pytest.mark.parametrize(("what", "says"), [("nope", "There is no directory"), ("file", "a file")])
def test_what_is_no_directory_is_status_2(
    llmctl: CommandLine, models: Path, what: str, says: str
) -> None:
    (models / "file").write_bytes(b"GGUF")
    said = llmctl("scan", str(models / what))
    assert (said.status, said.stdout) == (2, "")
    assert says in said.stderr


def test_names_cannot_move_the_cursor(llmctl: CommandLine, models: Path) -> None:
    write_head(models / "a\x1b[2J.gguf", model("llama31_8b", general__architecture="x\x1b[2J"))
    assert "\x1b" not in llmctl("scan").stdout


def test_a_second_scan_reads_no_file(llmctl: CommandLine, models: Path) -> None:
    path = models / "a.gguf"
    write_head(path, model("llama31_8b"))
    first = llmctl("scan", "--json").stdout
    entry = path.stat()
    with path.open("r+b") as file:
        file.write(b"no model")
    os.utime(path, ns=(entry.st_atime_ns, entry.st_mtime_ns))
    assert llmctl("scan", "--json").stdout == first


def test_damaged_heads_are_rows(llmctl: CommandLine, models: Path) -> None:
    dice, names = random.Random(5), sorted(oracle()["models"])  # the same damage each time
    for number in range(40):
        head, size = head_bytes(oracle()["models"][dice.choice(names)])
        damaged = bytearray(head)
        for _ in range(dice.choice([1, 5, 30])):
            at = dice.randrange(dice.choice([100, 1500, len(head)]))
            damaged[at] = dice.choice([0, 255, damaged[at] ^ 1, dice.randrange(256)])
        with (models / f"{number:02}.gguf").open("wb") as file:
            file.write(damaged[: dice.choice([len(head), dice.randrange(len(head))])])
            file.truncate(size)
    said = llmctl("scan", "--json")
    assert said.status == 0
    found = said.json["files"]
    assert len(found) == 40
    assert {bool(one["error"]) for one in found} == {True, False}


@pytest.mark.parametrize(("columns", "there"), [(80, False), (160, True)])
def test_a_narrow_terminal_goes_without_some_columns(
    llmctl: CommandLine,
    models: Path,
    columns: int,
    there: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_head(models / "a.gguf", model("llama31_8b"))
    monkeypatch.setattr("llmctl.cli.scan.width", lambda: columns)
    header = llmctl("scan").stdout.splitlines()[0].split()
    assert header == (HEADER if there else [one for one in HEADER if one not in ("ARCH", "CTX")])
