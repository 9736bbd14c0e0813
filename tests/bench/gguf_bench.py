"""What reading a model's head costs, beside the `gguf` package, and pricing and making a plan.

`python tests/bench/gguf_bench.py [--without-gguf]`. The files are as large as real ones and as
empty as holes: real-shaped vocabularies and tensor lists, no weights. Best of several, since
machines are noisy; the package gets one try, since it takes seconds. MiB are what a process grows
by at most while it reads.
"""

import contextlib
import mmap
import os
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from support.oracle import header_of, models, oracle
from support.shapes import qwen3moe_235b

from llmctl.core.gguf import Header, read_buffer, read_header
from llmctl.core.memory import Device, Estimator, Settings, estimate, model_of
from llmctl.core.memory.planner import Planner
from llmctl.core.memory.wanted import Room, Wanted

FILES = {
    "Qwen3-30B": ("qwen3_30b", 151_936, 151_387, 10),
    "gpt-oss-120b": ("gptoss120", 201_088, 446_189, 25),
    "gemma3-27b": ("gemma3_27b", 262_144, 514_906, 25),
}
"""Whose tensors, tokens, merges, and the milliseconds that were promised."""
PLAN = Settings(ctx=32768, tensor_split=(30, 20, 20, 11))
_CODES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "q4_K": 12, "q6_K": 14, "mxfp4": 39}


def text(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def words(count: int, most: int) -> bytes:
    """An array of strings as long as tokens are."""
    dice = random.Random(1)  # only their lengths matter
    items = b"".join(text(b"%0*d" % (dice.randint(1, most), n)) for n in range(count))
    return struct.pack("<IIQ", 9, 8, count) + items


def pairs(name: str, tokens: int, merges: int) -> list[tuple[str, bytes]]:
    found = []
    for key, value in oracle()["models"][name]["metadata"].items():
        if isinstance(value, str):
            found.append((key, struct.pack("<I", 8) + text(value.encode())))
        elif isinstance(value, int):
            found.append((key, struct.pack("<II", 4, value)))
    numbers = struct.pack("<IIQ", 9, 6, tokens) + bytes(4 * tokens)
    return [
        *found,
        ("tokenizer.ggml.tokens", words(tokens, 12)),
        ("tokenizer.ggml.scores", numbers),
        ("tokenizer.ggml.token_type", numbers.replace(b"\6", b"\5", 1)),
        ("tokenizer.ggml.merges", words(merges, 18)),
        ("tokenizer.ggml.eos_token_id", struct.pack("<II", 4, 7)),
    ]


def write(path: Path, name: str, tokens: int, merges: int) -> None:
    """A file of the model's true size, most of it a hole."""
    tensors = models()[name].tensors
    keys = pairs(name, tokens, merges)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    head += b"".join(text(key.encode()) + value for key, value in keys)
    for one in tensors:
        shape = struct.pack(f"<I{len(one.shape)}Q", len(one.shape), *one.shape)
        head += text(one.name.encode()) + shape + struct.pack("<IQ", _CODES[one.type], one.offset)
    path.write_bytes(head)
    os.truncate(path, len(head) + 32 + tensors[-1].offset + tensors[-1].nbytes)


def best(work: Callable[[], object], times: int = 15) -> float:
    """Milliseconds of the fastest try."""
    tries = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        tries.append(time.perf_counter() - start)
    return min(tries) * 1000


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


class File:
    """A file read in pieces, as over SFTP."""

    def __init__(self, path: Path) -> None:
        self._fd, self.size = os.open(path, os.O_RDONLY), path.stat().st_size

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self._fd, length, start)


def parse(path: Path) -> Header:
    with mapped(path) as data:
        return read_buffer(data)


def by_pieces(path: Path) -> Header:
    return read_header(File(path))


def by_the_package(path: Path) -> object:
    import gguf

    reader: object = gguf.GGUFReader(path)
    return reader


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds, and MiB that a child of this process takes more at its peak, the file's pages
    included."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before = status("VmRSS")
        took = best(work, 1)
        os.write(writing, f"{took} {(status('VmHWM') - before) / 1024}".encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    took, grown = map(float, os.read(reading, 64).split())
    os.close(reading)
    return took, grown


def status(key: str) -> int:
    """KiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))


def measure(directory: Path, *, package: bool) -> None:
    print(
        f"{'file':14} {'ours':>9} {'promised':>9} {'in pieces':>10} {'grows by':>9}"
        f" {'gguf':>9} {'grows by':>9} {'ratio':>7}"
    )
    for title, (name, tokens, merges, promised) in FILES.items():
        path = directory / f"{name}.gguf"
        write(path, name, tokens, merges)
        ours = best(partial(parse, path))
        pieces = best(partial(by_pieces, path), 3)
        nothing = (float("nan"), float("nan"))
        theirs, grown = cost(partial(by_the_package, path)) if package else nothing
        print(
            f"{title:14} {ours:6.1f} ms {promised:6} ms {pieces:7.1f} ms"
            f" {cost(partial(parse, path))[1]:5.1f} MiB {theirs:6.0f} ms {grown:5.0f} MiB"
            f" {theirs / ours:6.0f}x"
        )
        path.unlink()


def price() -> None:
    devices = [Device(f"CUDA{n}") for n in range(4)]
    for name in ("qwen3_30b", "gptoss120", "gemma3_27b", "llama33_70b"):
        model = models()[name]
        estimator = Estimator(model, devices)
        first = best(partial(estimate, model, PLAN, devices), 30)
        again = best(partial(estimator.estimate, PLAN), 50)
        search = best(partial(estimator.needs, PLAN), 50)
        print(
            f"{name:14} {len(model.tensors)} tensors: metadata {best(partial(make, name)):.2f} ms,"
            f" first estimate {first:.2f} ms, then {again:.3f} ms, in a search {search:.3f} ms"
        )


def plan() -> None:
    """94 layers on four GPUs: everything fits; experts must go, evenly and not; a context is asked
    for; and on cards of all sizes."""
    model = qwen3moe_235b("q4_K")
    for sizes in ((48, 48, 48, 48), (24, 24, 24, 24), (32, 24, 16, 12), (12, 12, 12, 12)):
        rooms = [Room(f"CUDA{n}", size << 30, size << 30) for n, size in enumerate(sizes)]
        planner = Planner(model, rooms, None)
        times = []
        for ctx in (None, 32768):
            found = planner.plan(Wanted(ctx=ctx))
            told = f"ctx {found.settings.ctx}, {found.moved_layers} layers moved"
            told = told if found.fits else "does not fit"
            times.append(f"{best(partial(planner.plan, Wanted(ctx=ctx)), 5):6.1f} ms ({told})")
        print(f"{'+'.join(map(str, sizes)):12} GiB, ctx auto {times[0]}, given {times[1]}")


def make(name: str) -> object:
    one = oracle()["models"][name]
    return model_of(header_of(one["metadata"], one["tensors"]))


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        measure(Path(directory), package="--without-gguf" not in sys.argv)
    price()
    plan()


if __name__ == "__main__":
    main()
