#!/usr/bin/python3
"""Watches the temperature of GPUs: warns, and stops the model when one stays too hot.

    gpu_guard.py --warn 85 --critical 95 --sustained 30 -- llmctl off --all

What it says goes to stderr, and so to the journal. One hot reading stops nothing: sensors jump.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HWMON_NAMES = ("amdgpu", "i915", "xe", "nouveau")
QUERY = ("nvidia-smi", "--query-gpu=index,temperature.gpu", "--format=csv,noheader,nounits")


@dataclass
class Watch:
    """Readings in, words out. Degrees are Celsius; sustained: seconds at `critical` that stop."""

    warn: float
    critical: float
    sustained: float
    hot_since: dict[str, float] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)

    def read(self, temperatures: dict[str, float], now: float) -> tuple[list[str], bool]:
        """What to say, and whether to stop the model: once, until the card has cooled down."""
        said: list[str] = []
        stop = False
        for name, degrees in temperatures.items():
            said += self._warn(name, degrees)
            if degrees < self.critical:
                self.hot_since.pop(name, None)
                if degrees < self.warn:
                    self.stopped.discard(name)
                continue
            since = self.hot_since.setdefault(name, now)
            if now - since >= self.sustained and name not in self.stopped:
                self.stopped.add(name)
                said.append(f"{name}: {degrees:g} C for {now - since:.0f} s: stopping the model")
                stop = True
        return said, stop

    def _warn(self, name: str, degrees: float) -> list[str]:
        if degrees >= self.warn and name not in self.warned:
            self.warned.add(name)
            return [f"{name}: {degrees:g} C, warm (warning at {self.warn:g})"]
        if degrees < self.warn and name in self.warned:
            self.warned.discard(name)
            return [f"{name}: {degrees:g} C again"]
        return []


def nvidia(text: str) -> dict[str, float]:
    """nvidia-smi's lines; a card that gives no reading is left out."""
    found = {}
    for line in text.splitlines():
        index, _, degrees = (word.strip() for word in line.partition(","))
        if degrees.isdigit():
            found[f"nvidia {index}"] = float(degrees)
    return found


def hwmon(root: Path) -> dict[str, float]:
    """The hottest sensor of each card that the kernel's own drivers tell of."""
    found = {}
    for one in sorted(root.glob("*")):
        name = _text(one / "name")
        degrees = [_text(sensor) for sensor in one.glob("temp*_input")]
        if name in HWMON_NAMES and any(degrees):
            found[f"{name} {one.name}"] = max(int(word) for word in degrees if word) / 1000
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:  # a card that sleeps
        return ""


def temperatures(source: str, root: Path) -> dict[str, float]:
    """Readings of all cards. Raises OSError where the named source does not answer."""
    found = hwmon(root) if source != "nvidia-smi" else {}
    if source != "hwmon":
        try:
            done = subprocess.run(QUERY, capture_output=True, text=True, timeout=20, check=False)
            found |= nvidia(done.stdout)
        except (FileNotFoundError, subprocess.TimeoutExpired):
            if source == "nvidia-smi":
                raise OSError("nvidia-smi does not answer") from None
    return found


def say(text: str) -> None:
    """To the journal."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Watch until systemd ends it."""
    parser = argparse.ArgumentParser()
    for name in ("warn", "critical", "sustained", "interval"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--source", choices=("auto", "nvidia-smi", "hwmon"), default="auto")
    parser.add_argument("--hwmon", type=Path, default=Path("/sys/class/hwmon"))
    parser.add_argument("stop", nargs="+")
    given = parser.parse_args()
    watch = Watch(given.warn, given.critical, given.sustained)
    silent = False
    while True:
        try:
            found = temperatures(given.source, given.hwmon)
        except OSError as error:
            found = {}
            say(str(error))
        if not found and not silent:
            say("no GPU tells its temperature; watching on")
        silent = not found
        said, stop = watch.read(found, time.monotonic())
        for line in said:
            say(line)
        if stop and subprocess.run(given.stop, check=False).returncode:
            say(f"{' '.join(given.stop)} failed")
        time.sleep(given.interval)


if __name__ == "__main__":
    main()
