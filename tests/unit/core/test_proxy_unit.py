"""core/proxy_unit.py: the texts of the proxy's units."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import without_ring
from support.systemd_syntax import exec_words, settings, values

from llmctl.core.listening import parse_listen
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.proxy_unit import SERVICE, SOCKET, UNITS, listened, service_file, socket_file
from llmctl.core.unit import Owner, UnitFile, read_header
from llmctl.store.data import template

GOLDEN = Path(__file__).resolve().parents[2] / "golden/proxy"
PYTHON = "/home/ana/llmctl/.venv/bin/python3"
LISTEN = ("127.0.0.1:1234", "100.101.102.103:1234", "[fd7a:115c:a1e0::1]:1234")


def socket(*listen: str) -> UnitFile:
    found = [parse_listen(one) for one in listen or LISTEN]
    return socket_file(template(SOCKET), found, version="0.1.0")


def service(
    python: str = PYTHON, version: str = "0.1.0", environment: dict[str, str] | None = None,
    **keys: str,
) -> UnitFile:  # fmt: skip
    given = ProxySettings(**keys)  # type: ignore[arg-type]
    return service_file(
        template(SERVICE), given, python=python, environment=environment or {}, version=version
    )


@pytest.mark.parametrize("unit", [socket(), service()], ids=lambda unit: unit.name)
def test_a_unit_is_its_golden_text(unit: UnitFile) -> None:
    path = GOLDEN / unit.name
    if os.environ.get("LLMCTL_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(unit.text, "utf-8")
    assert unit.text == path.read_text("utf-8")


def test_there_is_no_golden_text_without_a_unit() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(UNITS)


def test_systemd_has_nothing_to_say(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        without_ring(request, "usermgr", "systemd-analyze is missing")
    python = tmp_path / "my 100% python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    units = [
        socket("127.0.0.1:1", "[::]:1", "0.0.0.0:2"),
        service(str(python), environment=AWKWARD),
    ]
    for unit in units:
        (tmp_path / unit.name).write_text(unit.text, "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "--user", "--recursive-errors=no", "--man=no", "verify",
         *(str(tmp_path / unit.name) for unit in units)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


AWKWARD = {"XDG_CONFIG_HOME": '/home/100% mine/"x"', "XDG_STATE_HOME": "/s"}


def test_the_socket_listens_where_it_is_told_to() -> None:
    text = socket().text
    assert values(text, "ListenStream") == list(LISTEN)
    assert [str(one) for one in listened(text)] == list(LISTEN)


def test_an_address_that_is_not_there_yet_does_no_harm() -> None:
    assert values(socket().text, "FreeBind") == ["yes"]


def test_what_cannot_be_read_in_an_edited_socket_is_left_out() -> None:
    text = socket().text.replace("ListenStream=127.0.0.1:1234", "ListenStream=%t/x.sock")
    assert [str(one) for one in listened(text)] == list(LISTEN[1:])
    assert listened(None) == ()


def test_the_service_runs_the_interpreter_that_it_was_installed_by() -> None:
    (value,) = values(service("/opt/my 100% $py/bin/python").text, "ExecStart")
    assert exec_words(value.replace("$py", "py"))[0] == "/opt/my 100% py/bin/python"
    assert exec_words(value.replace("$py", "py"))[1:] == ["-P", "-m", "llmctl.proxy"]


def test_systemd_waits_longer_than_the_proxy_drains() -> None:
    assert values(service(stop_timeout="5m").text, "TimeoutStopSec") == ["310s"]
    assert values(service(stop_timeout="500ms").text, "TimeoutStopSec") == ["10.5s"]


def test_no_number_of_restarts_closes_the_socket() -> None:
    assert ("Unit", "StartLimitIntervalSec", "0") in settings(service().text)


def test_the_service_sees_the_files_that_were_meant() -> None:
    text = service(environment=AWKWARD).text
    assert values(text, "Environment") == [
        '"XDG_CONFIG_HOME=/home/100%% mine/\\"x\\""', "XDG_STATE_HOME=/s",
        "MALLOC_MMAP_THRESHOLD_=131072",
    ]  # fmt: skip


def test_both_units_are_known_as_ours() -> None:
    for unit in (socket(), service()):
        assert read_header(unit.text).owner is Owner.OURS
        assert read_header(unit.text.replace("[Unit]", "[Unit]\n# x")).owner is Owner.EDITED


def test_an_upgrade_makes_the_service_stale_and_not_the_socket() -> None:
    def source(unit: UnitFile) -> str | None:
        return read_header(unit.text).source

    found = [parse_listen(one) for one in LISTEN]
    assert source(service(version="0.2.0")) != source(service())
    assert source(socket_file(template(SOCKET), found, version="0.2.0")) == source(socket())


def test_nothing_in_the_service_takes_rights_from_what_it_starts() -> None:
    """A setuid nvidia-modprobe makes the devices when the first program asks for them; that may be
    `llama-server --list-devices`, asked by a switch."""
    keys = {key for _, key, _ in settings(service().text)}
    assert not [key for key in keys if re.match("NoNew|System|Restrict|Private|Protect|Lock", key)]
