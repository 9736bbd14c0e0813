"""`llmctl` and `python -m llmctl`."""

import gc
import os
import sys

# A command makes little garbage and ends soon; collecting while modules are imported costs it a
# fifth of its time (docs/performance.md).
gc.disable()


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] in (["status"], ["status", "--json"]) and not os.environ.get("LLMCTL_HOST"):
        _status()
    else:
        from llmctl.cli.app import main as run

        run()


def _status() -> None:
    """The two forms that prompts, status bars and loops ask for; the parser alone is 40 ms."""
    from llmctl.cli.output import guarded

    with guarded():
        from llmctl.cli.boxes import LOCAL, open_box
        from llmctl.cli.overview import show_overview

        show_overview(open_box(LOCAL), as_json="--json" in sys.argv)


if __name__ == "__main__":
    main()
