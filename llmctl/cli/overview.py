"""What `llmctl status` prints. Typer is not imported here: see llmctl/__main__.py."""

from collections.abc import Sequence
from typing import Any

from llmctl.cli.output import answer, answer_json, duration, gib, table, warn
from llmctl.core.state import State
from llmctl.engine.box import Box
from llmctl.engine.proxy_view import ProxyView, proxy_view
from llmctl.engine.proxy_view import facts as proxy_facts
from llmctl.engine.status import Asked, Instance, Overview, overview

HEADER = ("MODEL", "GROUP", "STATE", "PORT", "PID", "MEMORY", "UPTIME", "TOK/S")


def show_overview(box: Box, *, as_json: bool, asked: Asked | None = None) -> None:
    """The state of a box, as a table or as JSON. asked: see engine.status.overview."""
    seen, proxy = overview(box, asked=asked, explain=True), proxy_view(box)
    if as_json:
        answer_json(facts(seen, proxy=proxy))
        return
    table(HEADER, rows_of(seen))
    said, warned = proxy_lines(proxy, known=seen.problems)
    for line in notes_of(seen):
        answer(line)
    for line in warnings_of(seen):
        warn(line)
    for line in said:
        answer(line)
    for line in warned:
        warn(line)


def rows_of(seen: Overview) -> list[tuple[str, ...]]:
    """The table: a row for each model that is not plainly stopped, and for each idle group."""
    idle = [one.name for one in seen.groups if not any(i.group == one.name for i in seen.instances)]
    rows = [_row(one) for one in seen.instances]
    return rows + [("-", name, State.STOPPED.value, *"-----") for name in idle]


def notes_of(seen: Overview) -> list[str]:
    """What stands below the table."""
    return [
        f"{one.name}: {note}"
        for one in seen.instances
        for note in (*one.notes, *(one.draft.told if one.draft else ()))
    ]


def warnings_of(seen: Overview) -> list[str]:
    """What is wrong with the box."""
    return [*(fault for group in seen.groups for fault in group.faults), *seen.problems]


def proxy_lines(proxy: ProxyView | None, *, known: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is told of the proxy, and what is warned of. known: problems that are told anyway."""
    if proxy is None:
        return [], []
    if proxy.state is not State.READY:
        state = proxy.state.value
        return [], [f"the proxy does not answer on {proxy.url} ({state}): llmctl proxy status"]
    to = f", switching to {', '.join(proxy.switching)}" if proxy.switching else ""
    said = [f"proxy: {proxy.url}, {proxy.in_flight} in flight, {proxy.waiting} waiting{to}"]
    for one in proxy.unloaded:
        why = f"made room for {one.room_for}" if one.room_for else "had nothing to do"
        said.append(f"proxy: {one.model} {why}, {duration(one.ago_s)} ago")
    return said, [f"proxy: {one}" for one in proxy.problems if one not in known]


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
                "mode": one.mode,
                "running": list(one.running),
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
