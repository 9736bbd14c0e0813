"""keys.py: what the file of API keys may say, and whose key a request carries."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.errors import ProfileError
from llmctl.proxy.keys import ApiKey, Keyring, parse_keys, secret_of

SECRET = "sk-0123456789abcdef"  # as a careless person would write it down
DIGEST = hashlib.sha256(SECRET.encode()).digest()
FILE = "/home/ana/keys"


def complaints(text: str) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        parse_keys(text, file=FILE)
    return caught.value.problems


def test_a_key_may_be_written_out_or_as_its_digest() -> None:
    text = f"- {{name: a, key: {SECRET}, admin: true}}\n- {{name: b, sha256: {'ab' * 32}}}\n"
    assert parse_keys(text, file=FILE) == (
        ApiKey("a", DIGEST, None, admin=True), ApiKey("b", bytes.fromhex("ab" * 32)),
    )  # fmt: skip


def test_a_key_may_be_good_for_some_models_only() -> None:
    (one,) = parse_keys(f"- {{name: a, key: {SECRET}, models: [x, y]}}", file=FILE)
    assert one.models == ("x", "y")


def test_a_key_for_no_model_is_good_for_none() -> None:
    (one,) = parse_keys(f"- {{name: a, key: {SECRET}, models: []}}", file=FILE)
    assert one.models == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected a list of keys"),
        ("[]", "expected a list of keys"),
        ("{}", "expected a list of keys"),
        (SECRET, "expected a list of keys"),
        (f"- {SECRET}", "[0]: expected name, key"),
        (f"- {{key: {SECRET}}}", "[0].name: expected a name"),
        (f"- {{name: 'a b', key: {SECRET}}}", "[0].name: expected a name"),
        ("- {name: a}", "[0]: expected either key or sha256"),
        (f"- {{name: a, key: {SECRET}, sha256: {'ab' * 32}}}", "[0]: expected either"),
        ("- {name: a, key: 123456789012}", "[0].key: expected text; put it in quotes"),
        ("- {name: a, key: short}", "[0].key: expected at least 12 signs"),
        (f"- {{name: a, key: '{SECRET} x'}}", "[0].key: expected letters"),
        (f"- {{name: a, key: '{SECRET}é'}}", "[0].key: expected letters"),
        (f"- {{name: a, sha256: {SECRET}}}", "[0].sha256: expected 64 hexadecimal digits"),
        (f"- {{name: a, key: {SECRET}, models: x}}", "[0].models: expected a list"),
        (f"- {{name: a, key: {SECRET}, models: [1]}}", "[0].models: expected a list"),
        (f"- {{name: a, key: {SECRET}, admin: yes}}", "[0].admin: expected true or false"),
        (f"- {{name: a, {SECRET}: x}}", "[0]: has a key that is none of name, key"),
        (f"- {{name: a, key: {SECRET}}}\n- {{name: a, key: {SECRET}x}}", "[1].name: a is also"),
        (f"- {{name: a, key: {SECRET}}}\n- {{name: b, key: {SECRET}}}", "[1]: has the same key"),
        (f"- *{SECRET}", ":1: not valid YAML"),
        (f"- {{{SECRET}: 1, {SECRET}: 2}}", ":1: not valid YAML"),
        (f"- name: a\n  key: '{SECRET}\n", "not valid YAML"),
        (f"- name: a\n key: {SECRET}\n", ":2: not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_without_the_key(text: str, problem: str) -> None:
    found = complaints(text)
    assert any(one.startswith(FILE) and problem in one for one in found), found
    assert not any("0123456789" in one for one in found)


def test_all_complaints_come_at_once() -> None:
    assert len(complaints("- {name: 1, key: x}\n- {name: b}\n")) == 3


# Whose key


RING = Keyring((ApiKey("a", DIGEST), ApiKey("b", hashlib.sha256(b"other").digest())))


def test_a_key_is_found_by_its_digest() -> None:
    assert [RING.find(one) for one in (SECRET.encode(), b"other")] == list(RING.keys)


@given(st.binary(max_size=64))
def test_any_other_secret_is_nobodys(secret: bytes) -> None:
    if secret not in (SECRET.encode(), b"other"):
        assert RING.find(secret) is None


def test_every_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long an answer takes says nothing of which key was near."""
    seen = []

    def compare(one: bytes, other: bytes) -> bool:
        seen.append(one)
        return one == other

    monkeypatch.setattr("llmctl.proxy.keys.hmac.compare_digest", compare)
    RING.find(SECRET.encode())
    assert seen == [one.digest for one in RING.keys]


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("headers", "secret", "is_ambient"),
    [
        ({}, None, False),
        ({b"authorization": b"Bearer k"}, b"k", False),
        ({b"authorization": b"bearer  k "}, b"k", False),
        ({b"x-api-key": b"k"}, b"k", False),
        ({b"authorization": b"Bearer k", b"x-api-key": b"other"}, b"k", False),
        ({b"authorization": basic("ana:k:l")}, b"k:l", True),
        ({b"authorization": basic(":k")}, b"k", True),
        ({b"authorization": basic("k")}, None, True),
        ({b"authorization": b"Basic !"}, None, True),
        ({b"authorization": b"Digest k"}, None, False),
        ({b"authorization": b"Token k", b"x-api-key": b"k"}, b"k", False),
        ({b"authorization": b"Bearer "}, b"", False),
    ],
)
def test_where_a_key_is_looked_for(
    headers: dict[bytes, bytes], secret: bytes | None, is_ambient: bool
) -> None:
    assert secret_of(headers) == (secret, is_ambient)


def test_a_keyring_shows_no_secret() -> None:
    ring = Keyring(parse_keys(f"- {{name: a, key: {SECRET}}}", file=FILE))
    assert SECRET not in repr(ring)
