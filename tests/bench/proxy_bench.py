"""What the proxy costs, beside nothing, nginx and llama-swap, in turn in the same run.

    make bench            (or: PYTHONPATH=tests python tests/bench/proxy_bench.py; ROUNDS=7)

Clients and server are in C (load.c, upstream.c) and share the cores that the proxy has not. Rounds
are interleaved (A B C A B C ...) and medians are compared; what is held to a limit are ratios of
the same run, and memory. A start is a time, and only shown. docs/performance.md says what was seen.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from support import contenders
from support.contenders import Program

ROUNDS = int(os.environ.get("ROUNDS", "7"))
BEFORE = os.environ.get("BEFORE")
"""Another checkout, whose proxy is measured too: what did a change bring?"""


class Scene(NamedTuple):
    """What clients do. tokens: 0 is a plain answer; pace: µs between tokens; body: bytes; writes: 2
    where the head goes out before the body."""

    name: str
    clients: int
    tokens: int
    pace: int
    body: int = 400
    milliseconds: int = 600
    writes: int = 1


SCENES = (
    Scene("1 stream", 1, 4, 2000),
    Scene("8 streams", 8, 8, 5000),
    Scene("64 streams", 64, 16, 10000, milliseconds=2000),
    Scene("8 in two writes", 8, 8, 5000, writes=2),
    Scene("200 KB bodies", 1, 4, 2000, body=200_000),
    Scene("saturated", 8, 4000, 0),
    Scene("plain answers", 8, 0, 0),
    Scene("paced", 16, 50, 5000, milliseconds=1200),
)
LATENCY = SCENES[:5]
SATURATED, PLAIN, PACED = SCENES[5:]
UNGUARDED = "guard off"


class Seen(NamedTuple):
    """One round of a scene. whole: bytes in an answer's body."""

    p50: float
    p99: float
    requests_s: float
    body_s: float
    whole: int
    cpu_s: float
    cpu_request: float


Results = dict[tuple[str, str], list[Seen]]


def measured(load: str, target: Program, scene: Scene) -> Seen:
    """One round. Every answer must have been a whole one."""
    words = (
        target.port, scene.clients, scene.milliseconds, scene.tokens, scene.pace, scene.body,
        scene.writes,
    )  # fmt: skip
    before = target.cpu_s()
    with contenders.on_cores(contenders.OTHER_CORES):
        ran = subprocess.run([load, *map(str, words)], capture_output=True, text=True, timeout=60)
    cpu = target.cpu_s() - before
    if ran.returncode:
        raise SystemExit(f"{target.name}, {scene.name}: {ran.stderr.strip()}")
    found = json.loads(ran.stdout)
    if found["wrong"] or not found["requests"]:
        raise SystemExit(f"{target.name}, {scene.name}: answers were wrong: {found}")
    seconds = found["seconds"]
    return Seen(
        found["p50"], found["p99"], found["requests"] / seconds, found["body"] / seconds,
        found["whole"], cpu / seconds, cpu / found["requests"],
    )  # fmt: skip


def rounds(load: str, targets: list[Program], scenes: tuple[Scene, ...], count: int) -> Results:
    """All of it, interleaved; the first round warms connections and is not counted."""
    found: Results = {}
    for turn in range(count + 1):
        for scene in scenes:
            for target in targets if turn % 2 else targets[::-1]:
                seen = measured(load, target, scene)
                if turn:
                    found.setdefault((target.name, scene.name), []).append(seen)
    for scene in scenes:
        sizes = {seen.whole for target in targets for seen in found[target.name, scene.name]}
        if len(sizes) != 1:
            raise SystemExit(f"{scene.name}: answers differ in length: {sizes}")
    return found


def median(results: Results, target: str, scene: Scene, what: Callable[[Seen], float]) -> float:
    """Of the rounds."""
    return statistics.median(map(what, results[target, scene.name]))


def ratio(results: Results, ours: str, other: str, scene: Scene, what: Callable[[Seen], float]
          ) -> float:  # fmt: skip
    """The median of the ratios of each round: what a machine does to one it does to the next."""
    pairs = zip(results[ours, scene.name], results[other, scene.name], strict=True)
    return statistics.median(what(a) / what(b) for a, b in pairs)


def p50(seen: Seen) -> float:
    """Time to the first byte of an answer, µs."""
    return seen.p50


def tokens_s(seen: Seen) -> float:
    """Tokens a second, from the bytes of whole answers."""
    return seen.body_s / seen.whole * SATURATED.tokens


def per_token(seen: Seen) -> float:
    """µs of CPU."""
    return seen.cpu_s / tokens_s(seen) * 1e6


def per_paced(seen: Seen) -> float:
    """µs of CPU for a token that comes alone; what a request costs is in it, by 50."""
    return seen.cpu_request / PACED.tokens * 1e6


def of_guard(results: Results, scene: Scene, what: Callable[[Seen], float]) -> float:
    """What the guard adds: the median of the differences of each round."""
    pairs = zip(results["llmctl", scene.name], results[UNGUARDED, scene.name], strict=True)
    return statistics.median(what(a) - what(b) for a, b in pairs)


def show_latency(results: Results, names: list[str]) -> None:
    """Time to first byte."""
    print(f"\n{'time to first byte, µs':24}" + "".join(f"{one.name:>24}" for one in LATENCY))
    print(f"{'':24}" + f"{'p50':>12}{'p99':>12}" * len(LATENCY))
    for name in names:
        cells = [
            f"{median(results, name, one, what):12.0f}"
            for one in LATENCY
            for what in (p50, lambda seen: seen.p99)
        ]
        print(f"{name:24}{''.join(cells)}")


def show_rates(results: Results, names: list[str]) -> None:
    """Throughput, with 8 connections."""
    heads = ("k tokens/s", "CPU µs/token", "plain/s", "CPU µs/request", "µs/paced token")
    print(f"\n{'8 connections, at the limit':28}" + "".join(f"{one:>16}" for one in heads))
    for name in names:
        cells = (
            median(results, name, SATURATED, tokens_s) / 1000,
            median(results, name, SATURATED, per_token),
            median(results, name, PLAIN, lambda seen: seen.requests_s),
            median(results, name, PLAIN, lambda seen: seen.cpu_request * 1e6),
            median(results, name, PACED, per_paced),
        )
        print(f"{name:28}" + "".join(f"{c:16.{2 if c < 10 else 0}f}" for c in cells))


def starts(work: pathlib.Path) -> tuple[list[float], float]:
    """Starts to the first answer (s), and memory a second later (MB), of the program itself."""
    times, memory = [], []
    for _ in range(6):
        alone = contenders.llmctl_alone(work)
        times.append(alone.start_s)
        if len(times) == 6:
            time.sleep(1)
            memory.append(alone.memory_mb())
        alone.stop()
    return times[1:], memory[0]


class Limits:
    """What the issue promises. failed: what was not kept."""

    def __init__(self) -> None:
        self.failed = 0

    def hold(self, what: str, value: float, limit: float, *, least: bool = False) -> None:
        """Print it, and whether it is within its limit."""
        kept = value >= limit if least else value <= limit
        self.failed += not kept
        word = "at least" if least else "at most"
        print(f"{what:52}{value:10.2f}   {word} {limit:g}{'' if kept else '   MISSED'}")


def judge(results: Results, names: list[str], memory: tuple[float, float, float]) -> int:
    """The promises of the proxy; how many were not kept."""
    limits = Limits()
    print()
    for scene in LATENCY[:3]:
        for ours in ("llmctl", UNGUARDED) if "nginx" in names else ():
            found = ratio(results, ours, "nginx", scene, p50)
            limits.hold(f"time to first byte, {scene.name}, {ours}, to nginx", found, 1.15)
        if "llama-swap" in names:
            found = ratio(results, "llmctl", "llama-swap", scene, p50)
            limits.hold(f"time to first byte, {scene.name}, to llama-swap", found, 1)
    if "llama-swap" in names:
        found = ratio(results, "llmctl", "llama-swap", SATURATED, tokens_s)
        limits.hold("tokens/s, to llama-swap", found, 1.5, least=True)
    found = of_guard(results, SATURATED, per_token)
    limits.hold("CPU of the guard, µs a token, at the limit", found, 1)
    limits.hold("the same, paced", of_guard(results, PACED, per_paced), 1)
    alone, idle, loaded = memory
    limits.hold("memory of the program at rest, MB", alone, 40)
    limits.hold("memory after load, to before", loaded / idle, 1.25)
    return limits.failed


@contextmanager
def running(work: pathlib.Path) -> Iterator[list[Program]]:
    """All that can be had here."""
    server = contenders.upstream(work)
    targets = [server]
    try:
        targets.append(contenders.llmctl(work, server.port))
        targets.append(contenders.llmctl(work, server.port, name=UNGUARDED, guard="off"))
        if BEFORE:
            tree = pathlib.Path(BEFORE).absolute()
            targets.append(contenders.llmctl(work, server.port, name="before", tree=tree))
        for name, made in (("nginx", contenders.nginx), ("llama-swap", contenders.llama_swap)):
            other = made(work, server.port)
            if isinstance(other, Program):
                targets.append(other)
            else:
                print(f"{name} is left out: {other}")
        yield targets
    finally:
        for target in reversed(targets):
            target.stop()


def main() -> int:
    """Measure, show, judge."""
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as folder, running(work := pathlib.Path(folder)) as targets:
        load = contenders.built("load", work)
        started, alone = starts(work)
        time.sleep(1)
        idle = {one.name: one.memory_mb() for one in targets}
        results = rounds(load, targets, SCENES, ROUNDS)
        loaded = {one.name: one.memory_mb() for one in targets}
        names = [one.name for one in targets]
        show_latency(results, names)
        show_rates(results, names)
        print(f"\n{'memory, MB (PSS)':28}{'before load':>16}{'after':>16}{'start, ms':>16}")
        for one in targets:
            print(f"{one.name:28}{idle[one.name]:16.1f}{loaded[one.name]:16.1f}"
                  f"{one.start_s * 1000:16.0f}")  # fmt: skip
        middle, least = statistics.median(started) * 1000, min(started) * 1000
        print(f"{'llmctl, the program alone':28}{alone:16.1f}{middle:32.0f}, least {least:.0f}")
        missed = judge(results, names, (alone, idle["llmctl"], loaded["llmctl"]))
        print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
