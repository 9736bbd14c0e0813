"""What every login shell makes of the one line that it sees."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest

from llmctl.host.ssh_scripts import INLINE_BYTES, door

SHELLS = ("sh", "bash", "dash", "zsh", "fish")
WORDS = ("it's", "$HOME", "\\", "two\nlines", "*", '"', "`id`", "!x")
SCRIPT = f"""printf '%s|' {shlex.join(WORDS)} "$HOME"; cat"""


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize("shell", SHELLS)
def test_each_login_shell_runs_the_script_alike(shell: str, secret: bool) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    line, begin = door(SCRIPT, "MARK", secret=secret)
    environ = {"HOME": "/home/my home", "PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": "/nonexistent"}
    done = subprocess.run(
        [shell, "-c", line], input=begin + b"data", env=environ, capture_output=True, timeout=30
    )
    before, _, after = done.stdout.partition(b"MARK ")
    number, _, said = after.partition(b"\n")
    assert (before, number.isdigit()) == (b"", True)
    assert said.decode() == "|".join((*WORDS, "/home/my home", "data"))
    assert done.stderr.endswith(b"MARK\n")


def test_what_is_secret_or_long_is_no_word_of_a_command() -> None:
    for script, secret in (("echo $KEY", True), ("x" * INLINE_BYTES, False)):
        line, begin = door(script, "MARK", secret=secret)
        assert len(line) < 100
        assert script.encode() in begin
