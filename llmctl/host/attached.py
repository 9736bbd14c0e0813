"""A program at this terminal: it asks its own questions, and shows its own progress."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from llmctl.errors import HostError


def run_attached(argv: Sequence[str], *, environ: Mapping[str, str]) -> int:
    """Run a program on this machine to its end; its exit status. What it writes goes to stderr:
    it is progress, and stdout is for the answer. environ: what is added to ours.

    An interrupt reaches both. HostError: there is no such program.
    """
    sys.stderr.flush()
    try:
        with subprocess.Popen(argv, env={**os.environ, **environ}, stdout=2) as process:
            return process.wait()
    except OSError as error:
        raise HostError(f"{argv[0]} cannot be run: {error.strerror}.") from None
