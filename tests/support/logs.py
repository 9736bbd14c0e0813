"""Real servers, run by others: what they printed of their memory, beside what llmctl says of them.

All 28 logs are here. Of some only a part follows the rules: two were run with the split of before
ggml-org/llama.cpp#18148, one by a fork that has no window caches; of three nothing does, and
`NO_RULES` says why. `python tests/support/logs.py` prints the table for the documentation.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from support.oracle import header_of, models, oracle
from support.shapes import dense, gemma4, qwen3moe_235b, qwen35moe

from llmctl.core.memory import Device, Estimator, Model, Override, Settings, model_of

MIB = 1 << 20
GPU = [Device("CUDA0")]
NO_RULES = {
    33: "no line of it is quoted",
    35: "compute buffers alone, of an era that has no rule for two GPUs",
    53: "the model has no name; its cells follow the rules, its widths nobody can know",
}


class Case(NamedTuple):
    """Lines of one log: our names for them, and theirs."""

    number: int
    model: Model
    settings: dict[str, Any]
    lines: dict[str, str]
    devices: tuple[str, ...] = ("CUDA0",)

    def errors(self) -> dict[str, float]:
        """MiB that our number of a line is too high by."""
        settings = Settings(**self.settings)
        devices = [Device(name) for name in self.devices]
        ours = parts(self.model, settings, devices) | split(self.model, settings)
        return {
            theirs: ours[mine] - logs()[self.number]["observed_mib"][theirs]
            for mine, theirs in self.lines.items()
        }


@cache
def logs() -> dict[int, dict[str, Any]]:
    return {log["n"]: log for log in oracle()["logs"]}


def without_mtp() -> Model:
    one = json.loads(json.dumps(oracle()["models"]["qwen36_27b"]))
    one["metadata"]["qwen35.block_count"] = 64
    one["metadata"]["qwen35.nextn_predict_layers"] = 0
    return model_of(
        header_of(one["metadata"], [t for t in one["tensors"] if "blk.64." not in t[0]])
    )


def estimator(
    model: Model, devices: list[Device] | None = None, *, build: int | None = None
) -> Estimator:
    return Estimator(model, GPU if devices is None else devices, build=build)


def split(model: Model, settings: Settings) -> dict[str, float]:
    """K/V of full and of windowed layers, in MiB."""
    found = {}
    for name, kept in (("KV_full", False), ("KV_swa", True)):
        layers = tuple(
            layer if layer.is_swa == kept else msgspec.structs.replace(layer, k=0, v=0)
            for layer in model.layers
        )
        only = msgspec.structs.replace(model, layers=layers)
        found[name] = sum(need.kv_bytes for need in estimator(only).needs(settings)[0]) / MIB
    return found


def parts(model: Model, settings: Settings, devices: list[Device]) -> dict[str, float]:
    """What a log says of one plan, in MiB."""
    needs, host, _ = estimator(model, devices).needs(settings)
    found = {
        "KV_CPU": host.kv_bytes / MIB, "RS_CPU": host.state_bytes / MIB,
        "output": host.output_bytes / MIB, "model_CPU_Mapped": host.weights_bytes / MIB,
    }  # fmt: skip
    for need in needs:
        found[f"KV_{need.name}"] = need.kv_bytes / MIB
        found[f"RS_{need.name}"] = need.state_bytes / MIB
        found[f"model_{need.name}"] = need.weights_bytes / MIB
    return found


Q8 = {"type_k": "q8_0", "type_v": "q8_0"}


def q27() -> Model:
    return models()["qwen36_27b"]


def ot(patterns: str) -> tuple[Override, ...]:
    return tuple(Override(one, "CPU") for one in patterns.split(","))


def cases() -> list[Case]:
    q35 = qwen35moe(layers=40)
    oss, oss120 = models()["gptoss20"], models()["gptoss120"]
    llama, q30 = models()["llama31_8b"], models()["qwen3_30b"]
    g26 = gemma4(layers=30, period=6, full=2, sliding=8, window=1024)
    g31 = gemma4(layers=60, period=6, full=4, sliding=16, window=1024)
    e2b = gemma4(layers=35, period=5, full=1, sliding=1, window=512, shared=20)
    return [
        Case(1, q27(), {"ctx": 131072, "parallel": 4, "unified": True, **Q8},
         {"KV_CUDA0": "KV_CUDA0", "RS_CUDA0": "RS_CUDA0", "output": "output",
          "model_CPU_Mapped": "model_CPU_Mapped"}),
        Case(3, without_mtp(), {"ctx": 131072, "gpu_layers": 26},
         {"KV_CUDA0": "KV_CUDA0", "KV_CPU": "KV_CPU", "RS_CUDA0": "RS_CUDA0", "RS_CPU": "RS_CPU",
          "output": "output"}),
        Case(5, q27(), {"ctx": 32768, "mtp": True, "n_draft": 2},
         {"KV_CUDA0": "KV_Vulkan0", "RS_CUDA0": "RS_Vulkan0"}),
        Case(7, q27(), {"ctx": 8192, "parallel": 4, "unified": True, "mtp": True, "n_draft": 2,
                    "gpu_layers": 64},
         {"KV_CUDA0": "KV_Vulkan0", "RS_CUDA0": "RS_Vulkan0", "RS_CPU": "RS_CPU"}),
        Case(9, q35, {"ctx": 32768}, {"KV_CUDA0": "KV", "RS_CUDA0": "RS"}),
        Case(11, q35, {"ctx": 65536, "parallel": 4, "unified": True}, {"KV_CUDA0": "KV_CUDA0"}),
        Case(13, q35, {"ctx": 54784}, {"KV_CUDA0": "KV_Vulkan0"}),
        Case(15, qwen35moe(layers=48), {"ctx": 131072, **Q8}, {"KV_CUDA0": "KV"}),
        Case(17, oss, {"ctx": 131072},
         {"KV_full": "KV_full", "KV_swa": "KV_swa", "output": "output",
          "model_CPU_Mapped": "model_CPU_Mapped"}),
        Case(19, oss, {"ctx": 131072, "ubatch": 2048},
         {"KV_full": "KV_full", "KV_swa": "KV_swa", "output": "output"}),
        Case(21, oss, {"ctx": 8192, "ubatch": 128, **Q8},
         {"KV_full": "KV_full", "KV_swa": "KV_swa"}),
        Case(23, oss120, {"ctx": 4096, "swa_full": True},
         {"KV_full": "KV_full", "KV_swa": "KV_swa", "output": "output"}),
        Case(25, g26, {"ctx": 262144, **Q8}, {"KV_full": "KV_full", "KV_swa": "KV_swa"}),
        Case(27, g31, {"ctx": 32768, "parallel": 4, "unified": True},
         {"KV_full": "KV_full", "KV_swa": "KV_swa"}),
        Case(29, g31, {"ctx": 147712, **Q8}, {"KV_full": "KV_full"}),
        Case(31, e2b, {"ctx": 4096, "swa_full": True}, {"KV_swa": "KV_12_swa_layers"}),
        Case(37, q30, {"ctx": 65536, "parallel": 4, "unified": True},
         {"KV_CUDA0": "KV_CUDA0", "output": "output"}),
        Case(39, dense("qwen2", layers=28, kv=2), {"ctx": 16384, "parallel": 4, "unified": True},
         {"KV_CUDA0": "KV_CUDA0"}),
        Case(41, qwen3moe_235b("q6_K"),
         {"ctx": 16384, **Q8, "gpu_layers": 99,
          "overrides": (Override(r"blk\.(0|1|2|3|4)\.ffn.*", "CUDA0"),
                        *ot(r"blk\.(5|6|7|8|9)\.ffn.*,blk\.1[0-9]\.ffn.*,blk\.[2-9][0-9]\.ffn.*"))},
         {"KV_CUDA0": "KV_CUDA0", "model_CUDA0": "model_CUDA0", "output": "output"}),
        Case(43, qwen3moe_235b("q8_0"),
         {"ctx": 32768, **Q8, "gpu_layers": 99,
          "overrides": ot(r"blk\.1[4-9]\.ffn.*,blk\.[2-9][0-9]\.ffn.*")},
         {"KV_CUDA0": "KV_CUDA0", "model_CUDA0": "model_CUDA0"}),
        Case(45, llama, {"ctx": 16384, "ubatch": 1024, "gpu_layers": 99},
         {"KV_CUDA0": "KV_Vulkan0", "model_CUDA0": "model_Vulkan0", "output": "output",
          "model_CPU_Mapped": "model_CPU_Mapped"}),
        Case(51, dense("mistral3", layers=26, kv=8, vocab_size=131072),
         {"ctx": 8192, "parallel": 2, "gpu_layers": 0, "ubatch": 1024},
         {"KV_CPU": "KV_CPU", "output": "output"}),
        Case(55, q30, {"ctx": 4096}, {"KV_CUDA0": "context_CUDA0"}),
        # Evenly split over two nodes: 41 and 39 layers.
        Case(47, dense("llama", layers=80, kv=8),
             {"ctx": 4096, "tensor_split": (1, 1), "flash_attn": False},
             {"KV_CUDA0": "KV_dev0", "KV_CUDA1": "KV_dev1"}, ("CUDA0", "CUDA1")),
        # Of before #18148: -ngl 19 was 19 layers, as 20 units are now.
        Case(49, dense("qwen3", layers=36, kv=8),
             {"ctx": 131072, "gpu_layers": 20, "flash_attn": False},
             {"KV_CUDA0": "KV_CUDA0", "KV_CPU": "KV_CPU"}),
    ]  # fmt: skip


@cache
def table() -> str:
    """Per log, how many lines were compared and how far off the farthest is, in Markdown."""
    rows: dict[int, tuple[str, str]] = {
        number: ("-", f"no rule applies: {why}") for number, why in NO_RULES.items()
    }
    for case in cases():
        errors = case.errors()
        farthest = max(errors.values(), key=abs)
        rows[case.number] = (", ".join(errors), f"{abs(farthest):.3f}")
    lines = ["| log | model | build | lines | most MiB off |", "|---|---|---|---|---|"]
    lines += [
        f"| {number} | {logs()[number]['model']} | {logs()[number]['build']} | {names} | {off} |"
        for number, (names, off) in sorted(rows.items())
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
