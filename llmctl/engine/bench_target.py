"""The running model that a benchmark is about: where it is, what it runs with, who else uses it."""

import hashlib

import msgspec

from llmctl.core.state import State, model_state
from llmctl.core.words import unit_name
from llmctl.engine.bench_flags import running_flags
from llmctl.engine.box import Box
from llmctl.engine.proxy_told import port as proxy_port
from llmctl.engine.proxy_told import told
from llmctl.errors import UsageError
from llmctl.health import get, probe


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is ready. ctx: tokens of a slot. flags: see core/bench_words.py."""

    name: str
    port: int
    key: str | None
    build: str
    ctx: int
    slots: int
    flags: dict[str, str]
    digest: str


def running(box: Box, name: str) -> Running:
    """UsageError: it is not ready, and what to type. ProfileError: there is no such profile."""
    profile = box.store.profile(name)
    status = box.systemd.status([unit_name(name)])[0]
    port = box.port_of(status.unit, profile.group, pid=status.pid)
    key = box.api_key(profile)
    state = model_state(status, probe(box.host, port, key=key), name)
    if state is not State.READY:
        loads = state is State.LOADING
        raise UsageError(
            f"{name} is not ready: it is {state.value}.",
            hint="Wait for it: llmctl status" if loads else f"llmctl switch {name}",
        )
    props = _props(box, port, key)
    flags = running_flags(box, status.pid)
    digest = hashlib.sha256(msgspec.json.encode(flags, order="sorted")).hexdigest()[:12]
    return Running(
        name=name, port=port, key=key, build=props.build_info,
        ctx=props.default_generation_settings.n_ctx, slots=props.total_slots, flags=flags,
        digest=digest,
    )  # fmt: skip


class _Generation(msgspec.Struct, frozen=True):
    n_ctx: int = 0


class _Props(msgspec.Struct, frozen=True):
    """Of /props, what matters here."""

    build_info: str = "unknown"
    total_slots: int = 1
    default_generation_settings: _Generation = _Generation()


def _props(box: Box, port: int, key: str | None) -> _Props:
    status, body = get(box.host, port, "/props", key=key)
    try:
        return msgspec.json.decode(body, type=_Props) if status == 200 else _Props()
    except msgspec.DecodeError:
        return _Props()


def others(box: Box, port: int, key: str | None) -> str | None:
    """Who else has the box work now, in a clause; None: nobody. port, key: of a model's server."""
    proxy = proxy_port(box)
    said = told(box, proxy)[1] if proxy else None
    if said and (said.in_flight or said.waiting):
        count = said.in_flight + said.waiting
        return f"the proxy has {count} request{'s' * (count != 1)} under way"
    status, body = get(box.host, port, "/slots", key=key)
    try:
        slots = msgspec.json.decode(body) if status == 200 else []
        busy = sum(bool(one.get("is_processing")) for one in slots)
    except (msgspec.DecodeError, AttributeError, TypeError):
        return None
    return f"{busy} of its slots {'is' if busy == 1 else 'are'} busy" if busy else None
