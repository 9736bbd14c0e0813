"""What a llama-server says of its buffers at `-lv 4`, and a run of one just for that."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WORDS = ("--fit", "off", "-lv", "4", "--host", "127.0.0.1", "--port", "0", "--no-warmup",
         "--load-mode", "none")  # fmt: skip
"""--load-mode none: else the host's weights are printed as spans of the file, gaps included."""
_LINE = re.compile(
    r"(?P<who>\w+): +(?P<buffer>\w+) +(?P<what>model|KV|RS|output|compute) buffer size = +"
    r"(?P<mib>[\d.]+) MiB"
)
PATIENCE_S = 60.0


@dataclass(slots=True)
class Context:
    """MiB per kind of buffer and per buffer; of several lines, the sum."""

    sizes: dict[str, dict[str, float]] = field(default_factory=dict)
    pipeline: bool = False

    def add(self, what: str, buffer: str, mib: float) -> None:
        of_kind = self.sizes.setdefault(what, {})
        of_kind[buffer] = of_kind.get(buffer, 0.0) + mib

    def on(self, what: str, device: str) -> float:
        """MiB on one device; on the `host`: in all buffers that are no device's."""
        sizes = self.sizes.get(what, {})
        if device == "host":
            return sum(mib for name, mib in sizes.items() if not name[-1].isdigit())
        return sizes.get(device, 0.0)


@dataclass(slots=True)
class Printed:
    """What one start printed: the weights, then its contexts (one more for what drafts)."""

    weights: Context = field(default_factory=Context)
    contexts: list[Context] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def parsed(lines: Iterable[str]) -> Printed:
    """Compute buffers may be reserved again and again: the last ones hold."""
    found = Printed()
    for line in lines:
        found.lines.append(line)
        if "constructing llama_context" in line:
            found.contexts.append(Context())
        elif "pipeline parallelism enabled" in line:
            found.contexts[-1].pipeline = True
        elif "sched_reserve: reserving" in line:
            found.contexts[-1].sizes.pop("compute", None)
        elif match := _LINE.search(line):
            place = found.weights if match["what"] == "model" else found.contexts[-1]
            place.add(match["what"], match["buffer"], float(match["mib"]))
    return found


def started(
    server: str, words: Sequence[str], *, contexts: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Printed:  # fmt: skip
    """Start a server, read until so many contexts have reserved their memory, and kill it."""
    process = subprocess.Popen(
        [server, *words, *WORDS], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    try:
        return parsed(_until(process, contexts))
    finally:
        process.kill()
        process.communicate()


def _until(process: subprocess.Popen[bytes], contexts: int) -> list[str]:
    """The lines up to the end of the last reservation."""
    assert process.stderr is not None
    deadline, text, done = time.monotonic() + PATIENCE_S, b"", 0
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stderr, selectors.EVENT_READ)
        while done < contexts:
            if not waiting.select(deadline - time.monotonic()):
                raise TimeoutError(f"no memory was reserved:\n{text.decode()}")
            more = process.stderr.read1(1 << 16)  # type: ignore[attr-defined]
            if not more:
                raise RuntimeError(f"the server ended:\n{text.decode()}")
            text += more
            done = len(re.findall(rb"sched_reserve: reserve took", text))
    return text.decode().splitlines()
