"""What a llama-server's log says of its memory: the buffers of its last start, per device.

    start = parse_start(text.splitlines())
    start.build, start.models[0].weights, start.models[0].contexts[0].buffers

The lines are there at `-lv 4`. They are found wherever they stand in a line, so it does not matter
whether journald, `docker logs` or the server itself put a time before them. Numbers are those of
the log: MiB with two decimals.

What belongs together is known from the order alone. A head that is read begins a model, the next
`constructing llama_context` begins a context of it; the first model is the target, whatever comes
after its first context drafts. Sizes of one context may be printed again when its graph is laid
out anew: the last ones count. A build's line begins a new start, and all before it is forgotten.
"""

import re
from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

MOST = 4096
"""Lines that are kept of a start, so that nothing that is written to a log can fill memory."""

MOST_MODELS = 64

_BUFFER = re.compile(
    r"(?P<who>\w+): +(?P<device>\S+) +(?:(?P<kind>model|KV|RS|compute|output) +)?"
    r"buffer size += +(?P<mib>\d{1,9}\.\d\d) MiB"
)
_BUILD = re.compile(r"\bbuild(?:: |: b| = | b?)(\d{3,6})(?: \(| with )")
_DEVICE = re.compile(r"- (?P<name>\w+) *: (?P<what>.*) \((?P<total>\d{1,9}) MiB, \d+ MiB free\)")
_USED = re.compile(r": using device (\S+) \(")
_HEAD = re.compile(r": loaded meta data with \d+ key-value pairs and \d+ tensors from (.*) \(ver")
_CONTEXT = re.compile(r": constructing llama_context")
_IMAGES = re.compile(r"load_hparams: model size: +(\d{1,9}\.\d\d) MiB")
_IMAGES_ON = re.compile(r": CLIP using (\S+) backend")
_LOADED = re.compile(r"(?:main|llama_server): model loaded")
_HOST = re.compile(r"CPU(_.*)?|.*_Host|Host|AMX|HBM|BLAS")
_MAPPED = ("_Mapped", "_Private", "_Shared", "_Split")
HOST = "host"
PATTERN = (
    "buffer size|constructing llama_context|loaded meta data|using device|MiB free\\)|build|"
    "model size: |CLIP using|model loaded"
)
"""An extended regular expression (POSIX) that finds all lines that matter, and few others."""


class Buffer(msgspec.Struct, frozen=True):
    """One line: the buffer's type as llama.cpp calls it (`CUDA0`, `CPU_Mapped`), and its size."""

    type: str
    kind: str
    mib: float

    @property
    def home(self) -> str:
        """The device it is on, or HOST."""
        if _HOST.fullmatch(self.type):
            return HOST
        return next(
            (self.type.removesuffix(x) for x in _MAPPED if self.type.endswith(x)), self.type
        )


class Context(msgspec.Struct, frozen=True):
    """The buffers of one llama_context: KV, RS, compute, output."""

    buffers: tuple[Buffer, ...] = ()

    @property
    def is_dry(self) -> bool:
        """Nothing but zeros: a context that `--fit` only tried."""
        return bool(self.buffers) and not any(one.mib for one in self.buffers)


class Loaded(msgspec.Struct, frozen=True):
    """One model file as it was loaded. devices: those it was divided over, in order."""

    path: str
    weights: tuple[Buffer, ...] = ()
    contexts: tuple[Context, ...] = ()
    devices: tuple[str, ...] = ()


class Card(msgspec.Struct, frozen=True):
    """A device as the server listed it."""

    name: str
    description: str
    total_mib: int


class Start(msgspec.Struct, frozen=True):
    """One start. images: buffers of the projector. is_whole: the log says that all was loaded."""

    build: int | None = None
    cards: tuple[Card, ...] = ()
    models: tuple[Loaded, ...] = ()
    images: tuple[Buffer, ...] = ()
    is_whole: bool = False


class Amount(msgspec.Struct, frozen=True):
    """A sum of so many lines, each rounded to 0.01 MiB."""

    mib: float
    lines: int = 1

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.mib + other.mib, self.lines + other.lines)

    @property
    def tolerance_mib(self) -> float:
        """How far rounding may have moved it."""
        return 0.0051 * self.lines


NOTHING = Amount(0.0, 0)


def parse_start(lines: Iterable[str]) -> Start:
    """The last start in a log; an empty one when there is none."""
    reading = Reading()
    for line in lines:
        reading.feed(line)
    return reading.start()


def sums(buffers: Iterable[Buffer]) -> dict[tuple[str, str], Amount]:
    """(home, kind) -> how much there is."""
    found: dict[tuple[str, str], Amount] = {}
    for one in buffers:
        key, more = (one.home, one.kind), Amount(one.mib)
        found[key] = found[key] + more if key in found else more
    return found


def by_home(buffers: Iterable[Buffer]) -> dict[str, Amount]:
    """Home -> all that is there."""
    found: dict[str, Amount] = {}
    for (home, _), amount in sums(buffers).items():
        found[home] = found[home] + amount if home in found else amount
    return found


class Reading:
    """Reads a log line by line. `is_whole`: what follows is about requests."""

    def __init__(self) -> None:
        self.is_whole = False
        self._begin(None)

    def _begin(self, build: int | None) -> None:
        self._build, self._count, self.is_whole = build, 0, False
        self._cards: list[Card] = []
        self._models: list[Loaded] = []
        self._used: list[str] = []
        self._images: dict[tuple[str, str], Buffer] = {}
        self._images_on = ""

    def feed(self, line: str) -> None:
        """One line, whatever it is."""
        if "MiB" in line:
            self._size(line)
        elif match := _HEAD.search(line):
            self._model(match[1])
        elif _CONTEXT.search(line):
            self._context()
        elif match := _BUILD.search(line):
            self._begin(int(match[1]))
        elif match := _IMAGES_ON.search(line):
            self._images_on = match[1]
        elif _LOADED.search(line):
            self.is_whole = True

    def start(self) -> Start:
        """What was read so far."""
        models = [replace(one, contexts=_real(one.contexts)) for one in self._models]
        return Start(
            self._build, tuple(self._cards), tuple(models), tuple(self._images.values()),
            self.is_whole,
        )  # fmt: skip

    def _size(self, line: str) -> None:
        self._count += 1
        if self._count > MOST:
            return
        if match := _BUFFER.search(line):
            self._buffer(match)
        elif match := _DEVICE.search(line):
            self._cards.append(Card(match["name"], match["what"], int(match["total"])))
        elif match := _USED.search(line):
            self._used.append(match[1])
        elif match := _IMAGES.search(line):
            one = Buffer(self._images_on or "CPU", "model", float(match[1]))
            self._images["", "model"] = one

    def _buffer(self, match: re.Match[str]) -> None:
        kind = match["kind"] or ("model" if "load_tensors" in match["who"] else "")
        one = Buffer(match["device"], kind, float(match["mib"]))
        if match["who"] == "alloc_compute_meta":
            self._images[one.type, one.kind] = one
        elif not kind:
            return
        elif not self._models:
            self._model("")
            self._buffer(match)
        elif kind == "model":
            self._weigh(one)
        else:
            self._keep(one)

    def _model(self, path: str) -> None:
        """A head was read. The same one again: what came before was only tried, or was put to
        sleep since."""
        known = [one.path for one in self._models]
        if path in known:
            del self._models[known.index(path) :]
        if len(self._models) < MOST_MODELS:
            self._models.append(Loaded(path))

    def _context(self) -> None:
        if not self._models:
            self._model("")
        last = self._models[-1]
        if len(last.contexts) < MOST_MODELS:
            self._models[-1] = replace(last, contexts=(*last.contexts, Context()))

    def _weigh(self, one: Buffer) -> None:
        last = self._models[-1]
        devices, self._used = last.devices or tuple(dict.fromkeys(self._used)), []
        self._models[-1] = replace(last, weights=(*last.weights, one), devices=devices)

    def _keep(self, one: Buffer) -> None:
        if not self._models[-1].contexts:
            self._context()
        last = self._models[-1]
        *before, context = last.contexts
        kept = context.buffers
        if one.kind in ("compute", "output"):  # laid out again, and not once more
            kept = tuple(x for x in kept if (x.type, x.kind) != (one.type, one.kind))
        changed = replace(context, buffers=(*kept, one))
        self._models[-1] = replace(last, contexts=(*before, changed))


def _real(contexts: tuple[Context, ...]) -> tuple[Context, ...]:
    """Without those that were only tried, unless there is nothing else."""
    return tuple(one for one in contexts if not one.is_dry) or contexts[-1:]


def target(start: Start) -> tuple[tuple[Buffer, ...], tuple[Buffer, ...]]:
    """The buffers of the model that was asked for: its weights, and its first context."""
    first = start.models[0] if start.models else Loaded("")
    return first.weights, first.contexts[0].buffers if first.contexts else ()


def drafting(start: Start) -> Iterator[Buffer]:
    """The buffers of all that drafts: further contexts of the model (MTP), and further models."""
    for number, model in enumerate(start.models):
        if number:
            yield from model.weights
        for context in model.contexts[0 if number else 1 :]:
            yield from context.buffers
