"""What real llama.cpp said of its memory, and how far llmctl's estimates are from it.

`python tests/support/oracle.py` prints the table of errors that the documentation shows. The points
are exact plans of llama.cpp b11434 on a CUDA backend; the logs are runs that nobody here made.
"""

import json
import lzma
import math
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from llmctl.core.gguf import Header, Tensor, Value
from llmctl.core.gguf_types import BY_NAME
from llmctl.core.memory import Device, Estimator, Model, Need, Override, Settings, model_of

DATA = Path(__file__).parents[1] / "data" / "memory-oracle.json.xz"
BUILD = 11434
_WORDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "-ngl": ("gpu_layers", int),
    "-c": ("ctx", int),
    "-np": ("parallel", int),
    "-ub": ("ubatch", int),
    "-b": ("batch", int),
    "-ctk": ("type_k", str),
    "-ctv": ("type_v", str),
    "-ncmoe": ("n_cpu_moe", int),
    "-fa": ("flash_attn", lambda word: word != "off"),
    "-ts": ("tensor_split", lambda word: tuple(map(float, word.split(",")))),
    "-ot": ("overrides", lambda word: tuple(Override(*one.split("=")) for one in word.split(","))),
    "-ctkd": ("draft_k", str),
    "-ctvd": ("draft_v", str),
    "--spec-draft-n-max": ("n_draft", int),
    "--spec-type": ("mtp", lambda word: word == "draft-mtp"),
}
_FLAGS = {
    "-kvu": {"unified": True}, "--swa-full": {"swa_full": True}, "-nkvo": {"kv_offload": False},
    "--no-repack": {},
}  # fmt: skip


def settings_of(args: str, **known: Any) -> Settings:
    """The words of a command line as settings; `known` is what they leave open."""
    words = iter(args.split())
    for word in words:
        if word in _FLAGS:
            known.update(_FLAGS[word])
        else:
            key, read = _WORDS[word]
            known[key] = read(next(words))
    return Settings(**known)


class Point(msgspec.Struct):
    """One plan of the real thing: bytes per buffer. mtp: its two last points are of a model with
    its MTP layers loaded, the second of them of the MTP context; nothing else marks them."""

    model: str
    args: str
    n_gpus: int
    n_ctx: int
    buffers_bytes: dict[str, dict[str, int]]
    mtp: bool = False
    mtp_context: bool = False

    @property
    def devices(self) -> list[Device]:
        return [Device(f"CUDA{n}") for n in range(self.n_gpus)]

    def settings(self) -> Settings:
        return settings_of(self.args, mtp=self.mtp)

    def kind(self) -> str:
        """The class of plans it belongs to: each has a bound of its own."""
        settings = self.settings()
        total = settings.gpu_layers is None or settings.gpu_layers >= 999
        for word, is_so in (
            ("MTP context", self.mtp_context),
            ("part of the layers", not total),
            ("experts on the CPU", settings.n_cpu_moe > 0),
            ("several GPUs", self.n_gpus > 1),
            ("no flash attention", not settings.flash_attn),
            ("quantized K/V", settings.type_k != "f16"),
        ):
            if is_so:
                return word
        return "one GPU"

    def host(self, what: str) -> int:
        """Bytes in all buffers of the host."""
        return sum(b[what] for name, b in self.buffers_bytes.items() if not name[-1].isdigit())


@cache
def oracle() -> dict[str, Any]:
    with lzma.open(DATA) as file:
        read: dict[str, Any] = json.load(file)
    return read


FORKS = {"tq3_4s": (46, 32, 16)}
"""Types that only a fork has: number, and bytes per so many elements."""


def _row_bytes(type_: str, width: int) -> int:
    if type_ in FORKS:
        _, block, nbytes = FORKS[type_]
        return width // block * nbytes
    return BY_NAME[type_].row_bytes(width)


def header_of(metadata: dict[str, Any], tensors: list[Any]) -> Header:
    """A header as gguf-py would write it."""
    found, offset = [], 0
    for name, type_, dims in tensors:
        nbytes = math.prod(dims[1:], start=_row_bytes(type_, dims[0]))
        found.append(Tensor(name, type_, tuple(dims), offset, nbytes))
        offset += -(-nbytes // 32) * 32
    plain: dict[str, Value] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in metadata.items()
    }
    return Header(3, 32, plain, {}, tuple(found), 0, offset)


@cache
def models() -> dict[str, Model]:
    return {
        name: model_of(header_of(one["metadata"], one["tensors"]))
        for name, one in oracle()["models"].items()
    }


def points() -> list[Point]:
    found = msgspec.convert(oracle()["points"], list[Point])
    seen: dict[tuple[str, str], Point] = {}
    for point in found:
        first = seen.setdefault((point.model, point.args), point)
        if first is not point:
            point.mtp = True
        if point.args.endswith("-ctk f16"):
            point.mtp = point.mtp_context = True
    return found


@cache
def estimators() -> dict[tuple[str, int], Estimator]:
    return {
        (name, n): Estimator(model, [Device(f"CUDA{k}") for k in range(n)], build=BUILD)
        for name, model in models().items()
        for n in (1, 2, 3)
    }


def compared(point: Point, needs: tuple[Need, ...], host: Need) -> Iterator[tuple[int, Need]]:
    """What the real compute buffers are, beside the estimates."""
    for n, need in enumerate(needs):
        yield point.buffers_bytes[f"CUDA{n}"]["compute"], need
    yield point.host("compute"), host


@cache
def table() -> str:
    """Errors of the compute buffers, per class of plan, in Markdown."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    exact = {True: 0, False: 0}
    for point in points():
        estimator = estimators()[point.model, point.n_gpus]
        if point.mtp_context:
            needs, host = estimator.predicting(point.settings())
        else:
            needs, host, _ = estimator.needs(point.settings())
        real = [
            (0 if point.mtp_context else b["model"], b["context"])  # its weights are the model's
            for name, b in point.buffers_bytes.items() if name[-1].isdigit()
        ]  # fmt: skip
        ours = [(need.weights_bytes, need.kv_bytes + need.state_bytes) for need in needs]
        exact[ours == real] += 1
        for n, (truth, need) in enumerate(compared(point, needs, host)):
            total = truth + (sum(real[n]) if n < len(real) else 0)
            off = need.compute_bytes - truth
            kind = point.kind() + (", host" if n == len(needs) else "")
            rows.setdefault(kind, []).append((off / truth, off / max(1, total), off / (1 << 20)))
    lines = [
        f"Weights and context equal to the byte: {exact[True]} of {sum(exact.values())} plans.\n",
        "| plans | buffers | mean error | least | most | of the device's total | most MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, errors in sorted(rows.items()):
        share, of_all, mib = zip(*errors, strict=True)
        lines.append(
            f"| {kind} | {len(errors)} | {_mean(share):.2%} | {min(share):+.2%} |"
            f" {max(share):+.2%} | {_mean(of_all):.3%} | {max(mib, key=abs):+.1f} |"
        )
    return "\n".join(lines)


def _mean(errors: tuple[float, ...]) -> float:
    return fmean(abs(one) for one in errors)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
