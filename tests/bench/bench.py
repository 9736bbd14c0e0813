"""What llmctl's own work costs, as ratios of things measured in turn in the same run.

    make bench            (or: tests/kit/usermgr.sh -- python tests/bench/bench.py LLAMA_SERVER)

Runs inside a user manager. Rounds are interleaved (A B C A B C ...), medians are compared, and
nothing here is a test: machines are noisy, and docs/performance.md says what was seen.
"""

import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from kit import mkgguf

ROUNDS = int(os.environ.get("ROUNDS", "15"))
Measure = Callable[[], None]


def main() -> None:
    """Set up a home with 20 profiles, then measure."""
    llama = sys.argv[1]
    home = pathlib.Path(os.environ["HOME"])
    mkgguf.write(home, ["llama-script", "qwen3-script"])
    port = _free_port()
    _configure(home, llama, port, profiles=20)
    _run("llmctl", "apply")
    _run("llmctl", "switch", "p1")
    _status()
    _switch(home, llama, port)


def _configure(home: pathlib.Path, llama: str, port: int, *, profiles: int) -> None:
    config = home / ".config/llmctl"
    (config / "profiles").mkdir(parents=True)
    (config / "config.yaml").write_text(
        f"models_dir: {home}\nbinaries: {{upstream: {llama}}}\ngroups: {{gpu: {{port: {port}}}}}\n"
    )
    for number in range(1, profiles + 1):
        model = "llama-script" if number % 2 else "qwen3-script"
        (config / f"profiles/p{number}.yaml").write_text(
            f"model: {model}.gguf\nctx: 2048\nkv: q8_0\nthreads: 2\naliases: [m{number}]\n"
        )


def _status() -> None:
    bare = (sys.executable, "-c", "import typer, rich")
    found = _interleave({
        "python -c 'import typer, rich'": lambda: _run(*bare),
        "llmctl status (20 profiles, one ready)": lambda: _run("llmctl", "status"),
        "llmctl status --json": lambda: _run("llmctl", "status", "--json"),
        "llmctl list": lambda: _run("llmctl", "list"),
    })  # fmt: skip
    base = next(iter(found.values()))
    print(f"\n{'status':44} {'median ms':>10} {'ratio':>6}")
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, base, strict=True))
        print(f"{name:44} {statistics.median(times) * 1000:10.1f} {ratio:6.2f}")


def _switch(home: pathlib.Path, llama: str, port: int) -> None:
    by_hand = _ByHand(home, llama, _free_port())
    turn = {"llmctl": 0, "loop": 0}

    def next_name(who: str) -> str:
        turn[who] += 1
        return f"p{1 + turn[who] % 2}"

    found = _interleave({
        "by hand: SIGTERM, wait, exec, 5 ms poll": by_hand.switch,
        "llmctl switch": lambda: _run("llmctl", "switch", next_name("llmctl")),
        "systemctl start + curl each second": lambda: _loop(next_name("llmctl"), port),
    })  # fmt: skip
    by_hand.close()
    base = statistics.median(found["by hand: SIGTERM, wait, exec, 5 ms poll"])
    print(f"\n{'switch':44} {'median ms':>10} {'added ms':>9}")
    for name, times in found.items():
        median = statistics.median(times)
        print(f"{name:44} {median * 1000:10.1f} {(median - base) * 1000:9.1f}")


class _ByHand:
    """Two servers switched by a script that knows nothing of systemd."""

    def __init__(self, home: pathlib.Path, llama: str, port: int) -> None:
        self._home, self._llama, self._port = home, llama, port
        self._turn = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._turn += 1
        model = "llama-script" if self._turn % 2 else "qwen3-script"
        argv = [self._llama, "--host", "127.0.0.1", "--port", str(self._port), "--alias", "x"]
        argv += ["-m", f"{self._home}/{model}.gguf", "-c", "2048", "-np", "1", "--fit", "off"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(argv, stdout=quiet, stderr=quiet)
        while not _healthy(self._port):
            time.sleep(0.005)
        return process

    def switch(self) -> None:
        """Stop the one that runs, start the other, until it is healthy."""
        self.close()
        self._process = self._start()

    def close(self) -> None:
        """Stop the one that runs."""
        self._process.terminate()
        self._process.wait()


def _loop(name: str, port: int) -> None:
    """What people have today: start it, and ask each second."""
    _run("systemctl", "--user", "reset-failed")
    _run("systemctl", "--user", "start", f"llm-{name}.service")
    while not _healthy(port):
        time.sleep(1)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _interleave(measures: dict[str, Measure]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(ROUNDS + 1):
        for name, measure in measures.items():
            began = time.perf_counter()
            measure()
            if turn:  # the first round warms caches
                found[name].append(time.perf_counter() - began)
    return found


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main()
