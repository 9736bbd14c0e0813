"""access.py: who may ask what."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy.access import (
    Caller,
    Connection,
    Policy,
    admitted,
    cors_headers,
    is_loopback,
    is_preflight,
    preflight_headers,
)
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.head import Request
from llmctl.proxy.keys import ApiKey, Keyring
from llmctl.proxy.routing import strip_upstream

if TYPE_CHECKING:
    from collections.abc import Mapping

GUEST = ApiKey("guest", hashlib.sha256(b"guest-key").digest(), models=("a",))
ADMIN = ApiKey("admin", hashlib.sha256(b"admin-key").digest(), admin=True)
RING = Keyring((GUEST, ADMIN))
HERE = Connection("127.0.0.1", "127.0.0.1")
LAN = Connection("192.168.1.7", "192.168.1.5")
TAILNET_FROM_HERE = Connection("100.64.0.1", "100.64.0.1")
AS_GUEST = {"Authorization": "Bearer guest-key"}
AS_ADMIN = {"x-api-key": "admin-key"}
OUTSIDE = "https://evil.example"
KEYED = ProxySettings(api_keys="keys")


def request(path: str, method: str, headers: Mapping[str, str]) -> Request:
    given = {"Host": "127.0.0.1:1234", **headers}
    pairs = tuple((key.encode(), value.encode()) for key, value in given.items() if value)
    return Request(method.encode(), path.encode(), b"", "1.1", pairs)


def ask(
    path: str = "/v1/chat/completions", *, method: str = "POST", at: Connection = HERE,
    keys: Keyring | None = None, settings: ProxySettings | None = None, is_known: bool = True,
    headers: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """`ok`, the name of the key, or the kind of the refusal."""
    policy = Policy(settings or ProxySettings(), keys, frozenset({"box.local"}), is_known)
    _, stripped = strip_upstream(path.encode())
    found = admitted(request(path, method, headers or {}), stripped, at, policy)
    if isinstance(found, Trouble):
        return f"{found.status} {found.kind}"
    return found.key.name if found.key else "ok"


# Without keys


def test_without_keys_this_machine_is_served() -> None:
    assert ask() == "ok"


@pytest.mark.parametrize("at", [LAN, TAILNET_FROM_HERE])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health", "/llmctl/status"])
def test_without_keys_nobody_is_served_at_an_address_that_others_reach(
    at: Connection, path: str
) -> None:
    assert ask(path, at=at) == "403 keys_needed"


def test_what_to_write_is_in_the_refusal() -> None:
    policy = Policy(ProxySettings())
    found = admitted(request("/", "GET", {}), b"/", LAN, policy)
    assert isinstance(found, Trouble)
    assert "`proxy: {api_keys: FILE}`" in found.message
    assert "`allow_keyless: true`" in found.message


def test_others_are_served_without_keys_where_that_is_written_down() -> None:
    settings = ProxySettings(allow_keyless=True)
    assert ask(at=LAN, settings=settings) == "ok"
    assert ask("/metrics", method="GET", at=LAN, settings=settings) == "ok"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/llmctl/status"), ("GET", "/llmctl/events"), ("GET", "/slots"),
        ("POST", "/slots/0"), ("GET", "/%73lots"), ("GET", "//slots/"), ("POST", "/props"),
        ("POST", "/lora-adapters"), ("POST", "/models/load"), ("POST", "/models/unload"),
        ("POST", "/tools"), ("GET", "/cors-proxy"), ("GET", "/prefix/slots"),
    ],
)  # fmt: skip
def test_control_is_for_this_machine_or_an_admin(method: str, path: str) -> None:
    open_to_all = ProxySettings(allow_keyless=True)
    assert ask(path, method=method) == "ok"
    assert ask(path, method=method, at=LAN, settings=open_to_all) == "403 control_path"
    assert ask(path, method=method, at=LAN, keys=RING, headers=AS_GUEST) == "403 control_path"
    assert ask(path, method=method, at=LAN, keys=RING, headers=AS_ADMIN) == "admin"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/props"), ("GET", "/lora-adapters"), ("POST", "/tokenize"), ("GET", "/"),
     ("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/chat/completions/control")],
)  # fmt: skip
def test_what_shows_nobody_elses_work_is_for_every_key(method: str, path: str) -> None:
    assert ask(path, method=method, at=LAN, keys=RING, headers=AS_GUEST) == "guest"


# With keys


@pytest.mark.parametrize("at", [HERE, LAN])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/", "/props", "/slots"])
def test_with_keys_everybody_needs_one(at: Connection, path: str) -> None:
    assert ask(path, at=at, keys=RING) == "401 no_api_key"
    wrong = {"Authorization": "Bearer guest-kez"}
    assert ask(path, at=at, keys=RING, headers=wrong) == "401 invalid_api_key"


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
def test_health_needs_no_key(path: str) -> None:
    assert ask(path, method="GET", at=LAN, keys=RING) == "ok"


@pytest.mark.parametrize("path", ["/llmctl/status", "/metrics"])
def test_this_machine_sees_the_proxys_own_pages_without_a_key(path: str) -> None:
    assert ask(path, method="GET", keys=RING) == "ok"
    assert ask(path, method="GET", at=LAN, keys=RING) == "401 no_api_key"
    assert (
        ask(path, method="GET", keys=RING, headers={"x-api-key": "nonsense"})
        == "401 invalid_api_key"
    )


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_an_open_page_is_open_for_reading_only(path: str, method: str) -> None:
    """Anything else goes on to the model that its body names, and would start it."""
    assert ask(path, method=method, keys=RING) == "401 no_api_key"
    assert ask(path, method="HEAD", keys=RING) == "ok"


@pytest.mark.parametrize("path", ["/health", "/metrics", "/llmctl/status", "/v1/health"])
def test_a_models_page_of_the_same_name_needs_a_key(path: str) -> None:
    """It would start that model."""
    assert ask(f"/upstream/b{path}", method="GET", keys=RING) == "401 no_api_key"
    assert ask(f"/upstream/b{path}", method="GET", keys=RING, headers=AS_ADMIN) == "admin"


@pytest.mark.parametrize("path", ["/upstream/b/slots", "/upstream/b//%73lots/0"])
def test_control_is_known_below_a_models_name(path: str) -> None:
    assert ask(path, at=LAN, keys=RING, headers=AS_GUEST) == "403 control_path"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_who_comes_through_another_proxy_is_not_this_machine(header: str) -> None:
    given = {header: "203.0.113.5"}
    assert ask("/llmctl/status", method="GET", keys=RING, headers=given) == "401 no_api_key"
    assert ask("/llmctl/status", method="GET", headers=given) == "403 control_path"


@pytest.mark.parametrize(
    "headers",
    [AS_GUEST, {"Authorization": "bearer guest-key"}, {"X-API-Key": "guest-key"},
     {"Authorization": "Basic " + base64.b64encode(b"any:guest-key").decode()}],
)  # fmt: skip
def test_a_key_is_accepted_in_each_form(headers: dict[str, str]) -> None:
    assert ask(at=LAN, keys=RING, headers=headers) == "guest"


def test_keys_that_could_never_be_read_let_nobody_in() -> None:
    broken = Keyring(problem="others may read it")
    assert ask(keys=broken, headers=AS_GUEST) == "503 keys_unreadable"
    assert ask("/llmctl/status", method="GET", keys=broken) == "ok"


def test_before_the_configuration_was_read_nobody_is_let_in() -> None:
    assert ask(is_known=False) == "503 not_configured"
    assert ask(is_known=False, keys=RING, headers=AS_GUEST) == "503 not_configured"


# Web pages


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:1234", "LOCALHOST:1234", "127.0.0.1:1234", "[::1]:1234", "[::1]",
     "192.168.1.5", "box", "box:1234", "box.local:1234", "api.localhost", "localhost.", ""],
)  # fmt: skip
def test_a_host_that_is_this_machine_is_served(host: str) -> None:
    assert ask(headers={"Host": host}) == "ok"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:1234", "127.0.0.1.evil.example", "other.local",
             "localhost.evil.example:1234", "box.evil.example"],
)  # fmt: skip
def test_a_name_that_may_be_a_pages_own_is_refused(host: str) -> None:
    """DNS rebinding: the page's own name points to 127.0.0.1, so that no Origin is foreign."""
    assert ask(headers={"Host": host}) == "403 host_not_allowed"
    assert ask(headers={"Host": host, "Origin": f"http://{host}"}) == "403 host_not_allowed"
    assert ask("/llmctl/status", keys=RING, headers={"Host": host}) == "403 host_not_allowed"


def test_a_name_that_is_written_down_is_served() -> None:
    settings = ProxySettings(hosts=("Box.tail1234.ts.net",))
    assert ask(headers={"Host": "box.tail1234.ts.net:1234"}, settings=settings) == "ok"


def test_with_a_key_any_name_is_served() -> None:
    """A page does not know it."""
    assert ask(keys=RING, headers={"Host": "llm.example.com", **AS_GUEST}) == "guest"


@pytest.mark.parametrize("origin", [OUTSIDE, "null", "http://localhost:3000", "http://127.0.0.1"])
def test_a_foreign_page_is_refused(origin: str) -> None:
    assert ask(headers={"Origin": origin}) == "403 origin_not_allowed"
    assert (
        ask("/llmctl/status", method="GET", keys=RING, headers={"Origin": origin})
        == "403 origin_not_allowed"
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_our_own_page_is_served(scheme: str) -> None:
    assert ask(headers={"Origin": f"{scheme}://127.0.0.1:1234"}) == "ok"


@pytest.mark.parametrize("written", [OUTSIDE, f"{OUTSIDE}/", "https://EVIL.example"])
def test_a_page_that_is_allowed_is_served(written: str) -> None:
    assert ask(headers={"Origin": OUTSIDE}, settings=ProxySettings(cors=(written,))) == "ok"


def test_everybodys_pages_are_served_only_with_a_key() -> None:
    assert (
        ask(headers={"Origin": OUTSIDE}, settings=ProxySettings(cors=("*",)))
        == "403 origin_not_allowed"
    )
    settings = ProxySettings(cors=("*",), api_keys="keys")
    assert ask(settings=settings, keys=RING, headers={"Origin": OUTSIDE, **AS_GUEST}) == "guest"


def test_a_password_that_a_browser_sends_by_itself_does_not_make_a_page_ours() -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(b"any:guest-key").decode()}
    assert ask(keys=RING, headers={"Origin": OUTSIDE, **basic}) == "403 origin_not_allowed"
    assert ask(keys=RING, headers={"Origin": OUTSIDE, **AS_GUEST}) == "guest"


def test_a_page_that_loads_us_as_an_image_is_refused() -> None:
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert ask("/upstream/b/", method="GET", headers=image) == "403 origin_not_allowed"


def test_a_link_that_somebody_follows_is_not() -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask("/", method="GET", headers={**link, "Sec-Fetch-Dest": "document"}) == "ok"
    assert ask("/", method="GET", headers={**link, "Sec-Fetch-Dest": "iframe"}).startswith("403")
    assert ask("/", method="POST", headers={**link, "Sec-Fetch-Dest": "document"}).startswith("403")


@pytest.mark.parametrize(
    "headers",
    [{"User-Agent": "curl/8"}, {"Sec-Fetch-Mode": "cors", "User-Agent": "node"},
     {"x-stainless-lang": "python"}],
)  # fmt: skip
def test_programs_are_no_pages(headers: dict[str, str]) -> None:
    """curl; fetch() of Node, which sends Sec-Fetch-Mode and no Sec-Fetch-Site; the SDKs."""
    assert ask(headers=headers) == "ok"


# Cross-origin requests


def test_a_preflight_needs_no_key() -> None:
    wanted = {"Access-Control-Request-Method": "POST", "Origin": OUTSIDE}
    assert ask(method="OPTIONS", at=LAN, keys=RING, settings=KEYED, headers=wanted) == "ok"
    assert ask(method="OPTIONS", at=LAN, keys=RING, settings=KEYED) == "401 no_api_key"
    assert is_preflight(request("/", "OPTIONS", wanted))
    assert not is_preflight(request("/", "POST", wanted))


def test_only_allowed_pages_may_read() -> None:
    settings = ProxySettings(cors=(OUTSIDE,))
    allowed = dict(cors_headers(request("/", "GET", {"Origin": OUTSIDE}), settings))
    assert allowed[b"Access-Control-Allow-Origin"] == OUTSIDE.encode()
    assert b"X-Served-By" in allowed[b"Access-Control-Expose-Headers"]
    for headers in ({}, {"Origin": "https://other.example"}):
        assert cors_headers(request("/", "GET", headers), settings) == ((b"Vary", b"Origin"),)
    assert cors_headers(request("/", "GET", {"Origin": OUTSIDE}), ProxySettings()) == ()


def test_what_a_page_asks_for_in_its_preflight_it_may_send() -> None:
    asked = {"Access-Control-Request-Headers": "authorization, x-mine"}
    found = dict(preflight_headers(request("/", "OPTIONS", asked)))
    assert found[b"Access-Control-Allow-Headers"] == b"authorization, x-mine"
    assert b"Access-Control-Allow-Private-Network" not in found
    asked = {"Access-Control-Request-Private-Network": "true"}
    found = dict(preflight_headers(request("/", "OPTIONS", asked)))
    assert found[b"Access-Control-Allow-Private-Network"] == b"true"


@pytest.mark.parametrize(
    ("address", "yes"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True),
     ("local", True), ("192.168.1.127", False), ("::", False), ("0.0.0.0", False),
     ("fe80::1%eth0", False), ("", False)],
)  # fmt: skip
def test_loopback_is_known_by_its_numbers(address: str, yes: bool) -> None:
    assert is_loopback(address) is yes


def test_a_caller_without_a_key_has_none() -> None:
    assert Caller().key is None
