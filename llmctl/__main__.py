"""`llmctl` and `python -m llmctl`."""

import contextlib
import gc
import os
import sys

# A command makes little garbage and ends soon; collecting while modules are imported costs it a
# fifth of its time (docs/performance.md).
gc.disable()


def main() -> None:
    """Run the command line and leave with its exit status."""
    try:
        _run()
        status = 0
    except SystemExit as leave:
        status = _number(leave.code)
    _leave(status)


def _run() -> None:
    plain = sys.argv[1:] in (["status"], ["status", "--json"])
    if plain and not os.environ.get("LLMCTL_HOST"):
        _status()
    else:
        from llmctl.cli.app import main as run

        run()


def _status() -> None:
    """The two forms that prompts, status bars and loops ask for; the parser alone is 40 ms."""
    from llmctl.cli.output import guarded

    with guarded():
        from llmctl.engine.ahead import Ahead
        from llmctl.host.local import LocalHost
        from llmctl.systemd import Systemd

        host = LocalHost()
        # systemd takes as long to answer as the rest takes to import.
        asked = Ahead(lambda: Systemd(host).lively_status("llm-*.service"))
        from llmctl.cli.overview import show_overview
        from llmctl.engine.box import Box

        show_overview(Box(host), as_json="--json" in sys.argv, asked=asked.result)


def _number(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    sys.stderr.write(f"{code}\n")
    return 1


def _leave(status: int) -> None:
    """End at once: taking the interpreter apart would cost 12 ms, and there is nothing to undo."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
