"""What a box far away costs: round trips and seconds, through a relay that is late.

    .venv/bin/python tests/bench/ssh_bench.py [SECONDS]     (as root, with tests on the path)

Boots a box of the tests' lab, and runs llmctl here with --host. Round trips count TCP's and SSH's
handshakes. Nothing here is a test; tests/box/test_ssh.py holds the numbers.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

from box.far import FarSite
from kit.boxes import Lab
from support.ssh_home import Operator

COMMANDS = (("status",), ("list",), ("switch", "a"), ("switch", "b"), ("logs",), ("off",))


def main() -> None:
    """Set up a box with two profiles, then measure."""
    late_s = float(sys.argv[1]) if len(sys.argv) > 1 else 0.1
    with (
        Lab() as lab,
        tempfile.TemporaryDirectory() as place,
        Operator(pathlib.Path(place) / "home") as operator,
    ):
        box = lab.boot("trixie", name="trixie")
        relay = operator.meet(box)
        far = FarSite(box, operator, relay)
        far.set_up()
        far.profiles({"a": "", "b": ""})
        for words in (("apply",), ("switch", "a"), ("switch", "b")):
            far.llmctl(*words)
        print(f"{'command':12} round trips   seconds at 0 s   at {late_s:g} s")
        for command in COMMANDS:
            _measure(far, command, late_s)
        far.close()


def _measure(far: FarSite, command: tuple[str, ...], late_s: float) -> None:
    seconds = []
    for delay in (0.0, late_s):
        far.relay.round_trip_s = delay
        far.relay.reset_count()
        began = time.monotonic()
        far.llmctl(*command)
        seconds.append(time.monotonic() - began)
    near, away = seconds
    print(f"{' '.join(command):12} {far.relay.round_trips + 1:11} {near:16.2f} {away:10.2f}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.SubprocessError as error:
        sys.exit(str(error))
