"""cli/guard_look.py: `llmctl guard test`."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
from support.guard_cases import prose

if TYPE_CHECKING:
    from support.commandline import CommandLine

LOOP = "I say it again. "
TEXT = "First.\nSecond:" + LOOP * 300 + "Then it went on.\n" + "0, " * 6000


@pytest.fixture
def file(llmctl: CommandLine) -> str:
    path = llmctl.home / "text.md"
    path.write_text(TEXT)
    return str(path)


def test_each_loop_is_told(llmctl: CommandLine, file: str) -> None:
    said = llmctl("guard", "test", file)
    assert said.status == 0
    assert said.stdout.splitlines() == [
        f"{file}:2: 300.0 equal copies of 16 bytes",
        "  begins at byte 14, certain after 1586 bytes",
        "  a client is shown 32 bytes of it",
        "  'I say it again. '",
        f"{file}:3: 6000.0 equal copies of 3 bytes",
        "  begins at byte 4831, certain after 8239 bytes",
        "  a client is shown 6 bytes of it",
        "  '0, '",
    ]


def test_as_json(llmctl: CommandLine, file: str) -> None:
    found = llmctl("guard", "test", file, "--json").json
    assert found["channel"] == "content"
    assert found["text_bytes"] == len(TEXT)
    assert found["loops"][0] == {
        "kind": "exact", "line": 2, "start_bytes": 14, "block_bytes": 16, "span_bytes": 1586,
        "end_bytes": 14 + 300 * 16, "copies": 300.0, "shown_bytes": 32, "sample": LOOP,
    }  # fmt: skip


def test_the_channel_counts(llmctl: CommandLine, file: str) -> None:
    found = llmctl("guard", "test", file, "--channel", "tool", "--json").json
    assert [one["block_bytes"] for one in found["loops"]] == [3]  # 16 KB; of the other it is less


@pytest.mark.parametrize("channel", ["reasoning", "content"])
def test_what_is_no_loop_is_said_too(llmctl: CommandLine, channel: str) -> None:
    path = llmctl.home / "text.md"
    path.write_text(prose(5000) + "=" * 100 + "\n" + prose(500, 1))
    said = llmctl("guard", "test", str(path), "--channel", channel)
    assert said.status == 0
    assert said.stdout == f"{path}: no loop; at most 98 bytes were held back at once\n"


def test_a_loop_with_drift_is_said_to_be_one(llmctl: CommandLine) -> None:
    path = llmctl.home / "text.md"
    path.write_text("".join(f"Attempt {n}: I read the file again. " for n in range(900)))
    said = llmctl("guard", "test", str(path), "--channel", "reasoning").stdout
    assert said.splitlines()[0].endswith("copies of about 36 bytes that differ a little")
    assert said.count("a client is shown") == 1


def test_a_text_may_come_through_a_pipe(
    llmctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert llmctl("guard", "test", "-").stdout.startswith("-:2: 300.0 equal copies")


def test_a_closed_standard_input_is_said_to_be(
    llmctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    said = llmctl("guard", "test", "-")
    assert said.status == 2
    assert said.stderr.startswith("error: There is no standard input.")


def test_a_long_loop_is_followed_to_its_end(llmctl: CommandLine) -> None:
    """Much is compared at once; the last copy is not whole."""
    path = llmctl.home / "text"
    path.write_text("First: " + LOOP * 20_000 + LOOP[:5] + "then on.")
    said = json.loads(llmctl("guard", "test", str(path), "--json").stdout)
    assert [one["end_bytes"] for one in said["loops"]] == [7 + 20_000 * len(LOOP) + 5]


def test_a_file_that_is_not_there_is_named(llmctl: CommandLine) -> None:
    said = llmctl("guard", "test", "/nowhere/text.md")
    assert said.status == 2
    assert said.stderr.startswith("error: /nowhere/text.md cannot be read: No such file")


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\x00", b"a"])
def test_any_bytes_will_do(llmctl: CommandLine, text: bytes) -> None:
    path = llmctl.home / "text"
    path.write_bytes(text)
    assert "no loop" in llmctl("guard", "test", str(path)).stdout
