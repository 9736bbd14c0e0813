"""core/proc.py: what Linux says of processes and sockets."""

from __future__ import annotations

import pytest

from llmctl.core.proc import (
    parse_environ,
    parse_listeners,
    parse_port,
    parse_read_bytes,
    parse_rss_bytes,
    parse_unit,
    started_s,
    uptime_s,
)

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3034 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 52001 1
   1: 0100007F:3034 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 52002 1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17001 1
"""


def test_a_listener_is_found_by_its_port() -> None:
    assert parse_listeners(TCP, 12340) == ("52001",)


def test_a_port_without_a_listener_has_none() -> None:
    assert parse_listeners(TCP, 50000) == ()


def test_no_table_holds_no_listener() -> None:
    assert parse_listeners("", 22) == ()


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (
            "0::/user.slice/user@1000.service/llm.slice/llm-a.service\n",
            "llm-a.service",
        ),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        ("1:name=systemd:/system.slice/ollama.service\n0::/\n", "ollama.service"),
        ("4:memory:/x.service\n0::/\n", None),
        ("0::/\n", None),
        ("", None),
        ("0::/system.slice/a.service/sub/with:colon\n", "a.service"),
    ],
)
def test_the_unit_of_a_process_is_the_innermost_of_its_cgroup(
    cgroup: str, unit: str | None
) -> None:
    assert parse_unit(cgroup) == unit


def test_resident_memory_is_in_bytes() -> None:
    assert parse_rss_bytes("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n") == 2 << 20


def test_a_process_without_memory_has_none() -> None:
    assert parse_rss_bytes("Name:\tkthread\n") == 0


def test_bytes_read_are_counted() -> None:
    assert parse_read_bytes("rchar: 123\nwchar: 9\nread_bytes: 5\n") == 123


def test_a_process_that_is_gone_has_read_nothing() -> None:
    assert parse_read_bytes("") == 0


STAT = "77 (llama (x) y) S 1 77 77 0 -1 4194560 1 0 0 0 5 5 0 0 20 0 9 0 123400 1 1 1\n"


def test_the_age_of_a_process_is_told_whatever_its_name() -> None:
    assert uptime_s(STAT, "2000.50 100.00\n") == pytest.approx(766.5)


@pytest.mark.parametrize(("stat", "uptime"), [("", "1.0 2.0"), (STAT, ""), ("77 (x) S 1", "1.0")])
def test_a_process_that_is_gone_has_no_age(stat: str, uptime: str) -> None:
    assert uptime_s(stat, uptime) is None


def test_when_a_process_began_is_told() -> None:
    boot = "cpu 1 2 3\nbtime 1700000000\nprocesses 5\n"
    assert started_s(STAT, boot) == pytest.approx(1_700_001_234.0)


@pytest.mark.parametrize(
    ("stat", "boot"), [("", "btime 1"), (STAT, ""), (STAT, "btime x"), ("77 (x) S 1", "btime 1")]
)
def test_of_a_process_that_is_gone_nobody_knows_when_it_began(stat: str, boot: str) -> None:
    assert started_s(stat, boot) is None


def test_an_environment_is_read() -> None:
    assert parse_environ(b"A=1\0B=x=y\0\0nonsense\0C=\xff") == {"A": "1", "B": "x=y", "C": "\ufffd"}


@pytest.mark.parametrize(
    ("cmdline", "port"),
    [
        (b"/opt/llama-server\0--port\0" + b"12340\0-m\0x\0", 12340),
        (b"/opt/llama-server\0--port\0", None),
        (b"/opt/llama-server\0--port", None),
        (b"/opt/llama-server\0--port\0x\0", None),
        (b"/opt/llama-server\0", None),
        (b"", None),
    ],
)
def test_a_server_was_told_its_port(cmdline: bytes, port: int | None) -> None:
    assert parse_port(cmdline) == port
