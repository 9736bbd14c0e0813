"""Who may ask what: the guard at the door, before a request's body is read.

Three things are told apart. Where a connection comes from: loopback addresses cannot be forged, a
`X-Forwarded-For` says that somebody else sent it. Whose key a request carries. And whether a web
page sent it: a browser lets any page send requests to this machine, so without a key a request must
name this machine as its host (else the page's own name may have been pointed at it: DNS rebinding)
and must come from no foreign page (Origin, Sec-Fetch-Site). curl, SDKs and agents send neither.
"""

import functools
import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import msgspec

from llmctl.core.proxy_settings import ProxySettings
from llmctl.proxy.dialect import ENDPOINTS, Trouble
from llmctl.proxy.head import Headers, Request
from llmctl.proxy.keys import ApiKey, Keyring, secret_of

OPEN = frozenset({b"/health", b"/v1/health"})
"""To be read without a key, as with llama-server: whoever watches over a service has none."""
OURS = b"/llmctl/"
LOCAL = "local"
"""The address of whoever comes through a socket file."""
WRONG_KEY = "invalid_api_key"
_WATCHED = frozenset({b"slots", b"tools", b"cors-proxy"})
_CHANGED = frozenset({b"props", b"lora-adapters", b"load", b"unload"})
_IP = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|\[[0-9a-fA-F:.%]+\]")
_WANTED = frozenset({
    b"authorization", b"x-api-key", b"origin", b"host", b"sec-fetch-site", b"sec-fetch-mode",
    b"sec-fetch-dest", b"x-forwarded-for", b"forwarded", b"x-real-ip",
    b"access-control-request-method", b"access-control-request-headers",
    b"access-control-request-private-network",
})  # fmt: skip


class Connection(msgspec.Struct, frozen=True):
    """Both ends of a connection: the client's address, and the one of ours that it reached."""

    peer: str
    here: str


class Policy(msgspec.Struct, frozen=True):
    """What is known when a request comes. keys: None, where there are to be none. names: of this
    machine. is_known: config.yaml could be read once."""

    settings: ProxySettings
    keys: Keyring | None = None
    names: frozenset[str] = frozenset()
    is_known: bool = True


class Caller(msgspec.Struct, frozen=True):
    """Who is let in. key: None without one."""

    key: ApiKey | None = None


def is_loopback(address: str) -> bool:
    """An address as the kernel writes it, or `local` for a socket file."""
    return address.startswith(("127.", "::ffff:127.")) or address in ("::1", LOCAL)


def admitted(request: Request, path: bytes, at: Connection, policy: Policy) -> Caller | Trouble:
    """Who asks, or why not. path: without /upstream/NAME, and so as a model's server gets it; what
    is the proxy's own, or open to all, is so only by its full path."""
    if not policy.is_known:
        return Trouble(
            503, "not_configured", "The configuration cannot be read, so nobody is let in.",
            retry_after_s=5,
        )  # fmt: skip
    given = {lower: value for name, value in request.headers if (lower := name.lower()) in _WANTED}
    if policy.keys is None:
        return _keyless(request, path, at, policy, given)
    if (request.path in OPEN and _reads(request)) or is_preflight(request, given):
        return Caller()
    return _keyed(request, path, at, policy, given)


def _keyless(
    request: Request, path: bytes, at: Connection, policy: Policy, given: Mapping[bytes, bytes]
) -> Caller | Trouble:
    if not (policy.settings.allow_keyless or is_loopback(at.here)):
        return Trouble(
            403, "keys_needed",
            "Without API keys only this machine is served. Write `proxy: {api_keys: FILE}` into "
            "config.yaml, or `allow_keyless: true` if whoever reaches this address may use it.",
        )  # fmt: skip
    trouble = _from_a_page(request, policy, given)
    if trouble is not None:
        return trouble
    if _is_control(request, path) and not _is_here(at, given):
        return _control("from the machine itself")
    return Caller()


def _keyed(
    request: Request, path: bytes, at: Connection, policy: Policy, given: Mapping[bytes, bytes]
) -> Caller | Trouble:
    assert policy.keys is not None  # noqa: S101  # the caller looked
    secret, is_ambient = secret_of(given)
    key = policy.keys.find(secret) if secret else None
    if key is None or is_ambient:
        trouble = _from_a_page(request, policy, given)
        if trouble is not None:
            return trouble
    if key is None and not secret and _is_here(at, given) and _is_ours(request):
        return Caller()
    if key is None:
        return _unauthorized(policy.keys, has_secret=bool(secret))
    if _is_control(request, path) and not key.admin:
        return _control("with an admin's key")
    return Caller(key)


def _unauthorized(keys: Keyring, *, has_secret: bool) -> Trouble:
    if not keys.keys:
        return Trouble(503, "keys_unreadable", "The API keys cannot be read, so nobody is let in.")
    if has_secret:
        return Trouble(401, WRONG_KEY, "This API key is not known here.")
    return Trouble(401, "no_api_key", "An API key is needed: Authorization: Bearer KEY.")


def _control(how: str) -> Trouble:
    return Trouble(403, "control_path", f"This shows or changes what others do: only {how}.")


# Where it comes from


def _is_here(at: Connection, given: Mapping[bytes, bytes]) -> bool:
    """From this machine, and by nobody's order."""
    forwarded = given.keys() & {b"x-forwarded-for", b"forwarded", b"x-real-ip"}
    return is_loopback(at.peer) and not forwarded


def _from_a_page(request: Request, policy: Policy, given: Mapping[bytes, bytes]) -> Trouble | None:
    """A web page that is not to be trusted sent it."""
    host = given.get(b"host", b"").decode("latin-1").lower()
    if host and not _is_our_name(host, policy.names, policy.settings.hosts):
        name = host.rpartition(":")[0] or host
        return Trouble(
            403, "host_not_allowed",
            f"{name[:100]!r} is no name of this machine that the proxy knows. If it is one, write "
            "`proxy: {hosts: [NAME]}` into config.yaml.",
        )  # fmt: skip
    origin = given.get(b"origin")
    if origin is not None:
        text = origin.decode("latin-1").lower()
        is_own = text.partition("://")[2] == host and bool(host)
        return None if is_own or allowed_origin(origin, policy.settings) else _foreign(text)
    if given.get(b"sec-fetch-site") == b"cross-site" and not _is_visit(request, given):
        return _foreign("another site")
    return None


def _foreign(origin: str) -> Trouble:
    return Trouble(
        403, "origin_not_allowed",
        f"Web pages of {origin[:100]} may not use this. If they may, write "
        "`proxy: {cors: [ORIGIN]}` into config.yaml.",
    )  # fmt: skip


def _is_visit(request: Request, given: Mapping[bytes, bytes]) -> bool:
    """Somebody followed a link, and sees what comes."""
    return (
        _reads(request)
        and given.get(b"sec-fetch-mode") == b"navigate"
        and given.get(b"sec-fetch-dest") == b"document"
    )


@functools.lru_cache(256)
def _is_our_name(host: str, names: frozenset[str], more: tuple[str, ...]) -> bool:
    """Is it what this machine is called? An address always is: no name was looked up for it. Nor
    can a page of the internet have a name without a dot."""
    if _IP.fullmatch(host.rpartition(":")[0]) or _IP.fullmatch(host):
        return True
    name = (host.rpartition(":")[0] or host).removesuffix(".")
    known = {*names, *(one.lower() for one in more)}
    return "." not in name or name.endswith(".localhost") or name in known


# What is asked


def _reads(request: Request) -> bool:
    """Other methods are no page of the proxy, and would go on to a model."""
    return request.method in (b"GET", b"HEAD")


def _is_ours(request: Request) -> bool:
    return request.path.startswith(OURS) or (request.path == b"/metrics" and _reads(request))


def _is_control(request: Request, path: bytes) -> bool:
    """What shows or changes what others do, here or at a llama-server, which decodes `%73`; some
    of its paths are below a prefix that a profile gives it."""
    if path in ENDPOINTS:
        return False
    if request.path.startswith(OURS):
        return True
    words = set(unquote_to_bytes(path).split(b"/"))
    if words & _WATCHED:
        return True
    return bool(words & _CHANGED) and request.method not in (b"GET", b"HEAD", b"OPTIONS")


# Cross-origin requests


def allowed_origin(origin: bytes, settings: ProxySettings) -> bool:
    """May pages of this origin use the proxy? `*` are all those that have a key."""
    known = _origins(settings.cors)
    everybody = "*" in known and settings.api_keys is not None
    return everybody or origin.decode("latin-1").lower() in known


@functools.lru_cache(16)
def _origins(written: tuple[str, ...]) -> frozenset[str]:
    return frozenset(one.rstrip("/").lower() for one in written)


def is_preflight(request: Request, given: Mapping[bytes, bytes] | None = None) -> bool:
    """A browser asks whether a page may ask; it carries no key."""
    if request.method != b"OPTIONS":
        return False
    wanted = b"access-control-request-method"
    return (wanted in given) if given is not None else request.header(wanted) is not None


def cors_headers(request: Request, settings: ProxySettings) -> Headers:
    """What lets a page of an allowed origin read the answer; nothing for all others."""
    if not settings.cors:
        return ()
    origin = request.header(b"origin")
    if origin is None or not allowed_origin(origin, settings):
        return ((b"Vary", b"Origin"),)
    return (
        (b"Access-Control-Allow-Origin", origin), (b"Vary", b"Origin"),
        (
            b"Access-Control-Expose-Headers",
            b"X-Served-By, X-Fallback-From, X-Llmctl-Guard, Retry-After",
        ),
    )  # fmt: skip


def preflight_headers(request: Request) -> Headers:
    """What a page of an allowed origin may send."""
    asked = request.header(b"access-control-request-headers") or b"authorization, content-type"
    found = [
        (b"Access-Control-Allow-Methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
        (b"Access-Control-Allow-Headers", asked),
        (b"Access-Control-Max-Age", b"600"),
    ]
    if request.header(b"access-control-request-private-network") == b"true":
        found.append((b"Access-Control-Allow-Private-Network", b"true"))
    return found
