"""Rules between the profiles of a box: names and ports are each somebody's alone."""

from collections.abc import Iterable, Iterator, Mapping

from llmctl.core.boxes import fallback_complaint
from llmctl.core.config import Config
from llmctl.core.profile import Profile
from llmctl.core.profile_rules import Complaint
from llmctl.core.replica_unit import has_replicas, replica_port

MOST_PORT = 65535


def clashes(profile: Profile, others: Iterable[Profile], config: Config) -> Iterator[Complaint]:
    """What `profile` takes that is another's; the same complaint stands at the other one."""
    rest = [one for one in others if one.name != profile.name]
    names = {name: one.name for one in rest for name in (one.name, *one.aliases)}
    names[profile.name] = profile.name
    for index, alias in enumerate(profile.aliases):
        if alias in names:
            yield ("aliases", index), f"{alias} is a name of {names[alias]} already"
        names[alias] = profile.name
    for index, other in enumerate(profile.fallback):
        wrong = fallback_complaint(other, config.boxes) if "/" in other else None
        if "/" not in other and names.get(other, profile.name) == profile.name:
            wrong = f"there is no other profile {other}"
        if wrong is not None:
            yield ("fallback", index), wrong
    if profile.port is not None:
        yield from _port_clashes(profile.port, rest, config)
    yield from _replica_clashes(profile, rest, config)
    if profile.pin and profile.group in config.groups and not is_in_pool(profile, config):
        text = f"only in a pool: members of group {profile.group} make way for each other"
        yield ("pin",), text


def _port_clashes(port: int, rest: Iterable[Profile], config: Config) -> Iterator[Complaint]:
    taken: dict[int, str] = {}
    for other in rest:
        taken |= dict.fromkeys(ports_of(other, config)[0 if other.is_resident else 1 :], other.name)
    if port in taken:
        yield ("port",), f"{port} is {taken[port]}'s"
    groups: Mapping[int, str] = {group.port: name for name, group in config.groups.items()}
    if port in groups:
        yield ("port",), f"{port} is group {groups[port]}'s"


def _replica_clashes(
    profile: Profile, rest: Iterable[Profile], config: Config
) -> Iterator[Complaint]:
    """Further instances of a profile must not take the port of what may run beside it. The members
    of its own group may: they never do."""
    taken = {one.port: f"group {name}" for name, one in config.groups.items()}
    for other in rest:
        if other.is_resident or other.group != profile.group:
            taken |= dict.fromkeys(ports_of(other, config), other.name)
    for port in ports_of(profile, config)[1:]:
        if port in taken:
            yield ("replicas", "max"), f"a replica would listen on {port}, which is {taken[port]}'s"
        elif port > MOST_PORT:
            yield ("replicas", "max"), f"a replica would listen on {port}; there is none"


def is_in_pool(profile: Profile, config: Config) -> bool:
    """May it run beside other members of its group?"""
    group = config.groups.get(profile.group)
    return group is not None and group.is_pool


def ports_of(profile: Profile, config: Config) -> list[int]:
    """Ports that are settled by what is written: of its instances, the first one's at first; none,
    where its group is not known, or is a pool: that gives way (core/pool_ports.py)."""
    if is_in_pool(profile, config):
        return []
    group = config.groups.get(profile.group)
    base = profile.port or (group.port if group is not None else None)
    if base is None:
        return []
    numbers = range(2, profile.replicas.max + 1) if has_replicas(profile) else ()
    return [base, *(replica_port(base, number) for number in numbers)]
