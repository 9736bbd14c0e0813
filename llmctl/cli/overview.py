"""What `llmctl status` prints. Typer is not imported here: see llmctl/__main__.py."""

from collections.abc import Sequence
from typing import Any

from llmctl.cli.output import answer, answer_json, duration, gib, table, warn
from llmctl.core.state import State
from llmctl.engine.box import Box
from llmctl.engine.proxy_view import ProxyView, proxy_view
from llmctl.engine.proxy_view import facts as proxy_facts
from llmctl.engine.status import Asked, Instance, Overview, overview


def show_overview(box: Box, *, as_json: bool, asked: Asked | None = None) -> None:
    """The state of a box, as a table or as JSON. asked: see engine.status.overview."""
    seen, proxy = overview(box, asked=asked, explain=True), proxy_view(box)
    if as_json:
        answer_json(facts(seen, proxy=proxy))
        return
    header = ("MODEL", "GROUP", "STATE", "PORT", "PID", "MEMORY", "UPTIME", "TOK/S")
    idle = [one.name for one in seen.groups if not any(i.group == one.name for i in seen.instances)]
    rows = [_row(one) for one in seen.instances]
    table(header, rows + [("-", name, State.STOPPED.value, *"-----") for name in idle])
    for one in seen.instances:
        for note in (*one.notes, *(one.draft.told if one.draft else ())):
            answer(f"{one.name}: {note}")
    for fault in (fault for group in seen.groups for fault in group.faults):
        warn(fault)
    for problem in seen.problems:
        warn(problem)
    if proxy is not None:
        _tell_of(proxy, known=seen.problems)


def _tell_of(proxy: ProxyView, *, known: Sequence[str]) -> None:
    if proxy.state is not State.READY:
        warn(f"the proxy does not answer on {proxy.url} ({proxy.state.value}): llmctl proxy status")
        return
    to = f", switching to {', '.join(proxy.switching)}" if proxy.switching else ""
    answer(f"proxy: {proxy.url}, {proxy.in_flight} in flight, {proxy.waiting} waiting{to}")
    for problem in proxy.problems:
        if problem not in known:
            warn(f"proxy: {problem}")


def _row(one: Instance) -> tuple[str, ...]:
    speed = f"{one.tokens_per_s:.1f}" if one.tokens_per_s else "-"
    return (
        one.name, one.group, one.state.value, str(one.port), str(one.pid or "-"),
        gib(one.memory_bytes), duration(one.uptime_s), speed,
    )  # fmt: skip


def facts(seen: Overview, *, proxy: ProxyView | None = None) -> dict[str, Any]:
    """The JSON shape of `status`; docs/reference/json.md holds it."""
    return {
        "host": seen.host,
        "groups": [
            {
                "name": one.name,
                "active": one.active,
                "state": one.state.value,
                "faults": list(one.faults),
            }
            for one in seen.groups
        ],
        "instances": [_instance_facts(one) for one in seen.instances],
        "proxy": proxy_facts(proxy),
        "problems": list(seen.problems),
    }


def _instance_facts(one: Instance) -> dict[str, Any]:
    return {
        "profile": one.profile,
        "instance": one.number,
        "unit": one.unit,
        "group": one.group,
        "state": one.state.value,
        "port": one.port or None,
        "pid": one.pid or None,
        "uptime_s": one.uptime_s and round(one.uptime_s, 1),
        "memory_bytes": one.memory_bytes,
        "tokens_per_s": one.tokens_per_s,
        "notes": list(one.notes),
        "draft": one.draft and one.draft.facts,
    }
