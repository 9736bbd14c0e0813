"""`eval "$(llmctl aliases)"` in real shells: each alias runs what it says."""

from __future__ import annotations

import os
import shutil
import socket
from typing import TYPE_CHECKING

import pytest
from kit.commands import execute
from support.commandline import CommandLine

from llmctl.core.aliases import Ssh, render, through_ssh

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SHELLS = {
    "bash": ("bash", "--norc", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config"),
}
# Says what it was asked, word by word; but tells the aliases that the real one made.
RECORDER = """
if [ "$1" = aliases ]; then cat "$(dirname "$0")/../aliases"; else
printf 'asked:'; printf ' <%s>' "$@"; echo; fi
"""


SSH = """
if [ "$1" = -G ]; then exec {real} "$@"; fi
[ "$1 $2" = "-t llm@big" ] || exit 255
shift 2; exec sh -c "$*"
"""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"ring shells: {request.param} is missing")
    return str(request.param)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A home whose path has a space, with two profiles, and an ssh that does as sshd does: the
    words after the destination are one line for a shell."""
    folder = tmp_path / "my home"
    folder.mkdir()
    made = CommandLine(folder, monkeypatch)
    made.profile("coder")
    made.profile("qwen3.6-35b_a3b")
    made.program("llmctl", RECORDER)
    made.program("ssh", SSH.format(real=shutil.which("ssh")))
    return made


def typed(home: CommandLine, shell: str, words: Sequence[str], *lines: str) -> str:
    """What is answered to lines that are typed after `eval "$(llmctl aliases WORDS)"`."""
    (home.home / "aliases").write_text(home("aliases", *words).stdout)
    lines = (f'eval "$(llmctl aliases {" ".join(words)})"', *lines)
    env = {**os.environ, "TERM": "dumb"}
    stdin = "".join(f"{line}\n" for line in lines)
    return execute(SHELLS[shell], env=env, stdin=stdin, check=False).stdout


@pytest.mark.parametrize("named", [True, False], ids=["named", "any"])
def test_aliases_are_there_after_eval(home: CommandLine, shell: str, named: bool) -> None:
    words = ("--shell", shell) if named else ()
    said = typed(
        home, shell, words, "llcoder --dry-run", "llqwen3.6-35b_a3b", "lloff", 'echo "at $LLM_URL"'
    )
    assert "asked: <switch> <coder> <--dry-run>\n" in said
    assert "asked: <switch> <qwen3.6-35b_a3b>\n" in said
    assert "asked: <off>\n" in said
    assert "at http://127.0.0.1:1234/v1" in said


@pytest.mark.parametrize("named", [True, False], ids=["named", "any"])
def test_plain_aliases_are_there_after_eval(home: CommandLine, shell: str, named: bool) -> None:
    """The program there is named by its path, here one with a space."""
    words = ("--ssh", "llm@big", *(("--shell", shell) if named else ()))
    said = typed(home, shell, words, "llcoder --no-wait", "llstatus", 'echo "at $LLM_URL"')
    assert "asked: <switch> <coder> <--no-wait>\n" in said
    assert "asked: <status>\n" in said
    assert "at http://big:1234/v1" in said


def test_waking_sends_a_magic_packet(home: CommandLine, shell: str) -> None:
    """To this machine itself: a broadcast would leave it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(30)
        port = receiver.getsockname()[1]
        ssh = Ssh(destination="x", mac="00:11:22:33:44:FF", broadcast="127.0.0.1")
        text = render(through_ssh((), ssh), url="u")
        assert "sockaddr_in(9," in text
        text = text.replace("sockaddr_in(9,", f"sockaddr_in({port},")
        (home.home / "aliases").write_text(text)
        execute(SHELLS[shell], stdin='eval "$(llmctl aliases)"\nllwake\n', env=dict(os.environ))
        assert receiver.recv(200) == b"\xff" * 6 + bytes.fromhex("0011223344ff") * 16
