"""known_hosts as ssh reads it: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT."""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING

import paramiko
import pytest

from llmctl.errors import HostError
from llmctl.host.ssh_config import Destination
from llmctl.host.ssh_known import check_key, known_types

if TYPE_CHECKING:
    from pathlib import Path

KEY, OTHER = (paramiko.ECDSAKey.generate() for _ in range(2))


def line_of(names: str, key: paramiko.PKey = KEY) -> str:
    return f"{names} {key.get_name()} {key.get_base64()}"


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    words = (salt, hmac.digest(salt, name.encode(), "sha1"))
    return "|1|" + "|".join(base64.b64encode(word).decode() for word in words)


def box(path: Path, *lines: str, **more: object) -> Destination:
    path.write_bytes("\n".join([*lines, ""]).encode(errors="surrogateescape"))
    facts = {"port": 2222, "known_hosts": (str(path),), **more}
    return Destination("box", "gpu.example.net", **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "lines",
    [
        [line_of("[gpu.example.net]:2222")],
        [line_of("[gpu.example.net]:2222").replace(" ", " \t  ") + " a comment"],
        [line_of("first,[GPU.example.net]:2222,last")],
        [line_of("*.example.net,[*.example.net]:*")],
        [line_of("[gpu?example.net]:2222")],
        [line_of(hashed("[gpu.example.net]:2222"))],
        [line_of("[gpu.example.net]:2222", OTHER), line_of("[gpu.example.net]:2222")],
        ["# caf\udce9", "\udcff ssh-ed25519 AAAA", line_of("[gpu.example.net]:2222")],
        ["x ssh-ed25519 AAAAC", "x ssh-rsa", "x", "", line_of("[gpu.example.net]:2222")],
        [line_of("@cert-authority *", OTHER), line_of("[gpu.example.net]:2222")],
        [line_of("@revoked *", OTHER), line_of("[gpu.example.net]:2222")],
        ["x ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB", line_of("[gpu.example.net]:2222")],
    ],
)
def test_a_key_is_known(tmp_path: Path, lines: list[str]) -> None:
    check_key(box(tmp_path / "known", *lines), KEY)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [line_of("#[gpu.example.net]:2222")],
        [line_of("gpu.example.org")],
        [line_of("[*]:2222,![gpu.example.net]:2222")],
        [line_of("@cert-authority *")],
        [line_of(hashed("[other]:2222"))],
        [line_of("|1|no|hash")],
    ],
)
def test_a_key_is_not_known(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(HostError, match="box is not known"):
        check_key(box(tmp_path / "known", *lines), KEY)


def test_another_key_is_a_changed_one(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="shows another host key"):
        check_key(box(tmp_path / "known", line_of("[gpu.example.net]:2222", OTHER)), KEY)


def test_a_revoked_key_is_not_taken_though_it_is_known(tmp_path: Path) -> None:
    lines = (line_of("[gpu.example.net]:2222"), line_of("@revoked *"))
    with pytest.raises(HostError, match="calls revoked"):
        check_key(box(tmp_path / "known", *lines), KEY)


def test_kinds_of_keys_that_are_known_come_once(tmp_path: Path) -> None:
    lines = [line_of("gpu-key"), line_of("gpu-key", OTHER), "gpu-key ssh-rsa AAAA"]
    found = known_types(box(tmp_path / "known", *lines, key_alias="gpu-key"))
    assert found == (KEY.get_name(), "ssh-rsa")
