"""Where the members of a pool listen: they run together, so each has ports of its own.

A member's first instance listens on the group's port plus a multiple of STEP, and never on the
group's port itself: what still runs from when the group was exclusive does. Its replicas have the
numbers after it, as ever (core/replica_unit.py). A port that is written to a member's installed
unit stays its port, so a new profile moves nobody; who has none yet gets the lowest that is free,
in the order of names. What config.yaml and residents say goes first: a member in its way moves.
"""

from collections.abc import Iterable, Iterator, Mapping

from llmctl.core.config import Config
from llmctl.core.fleet import MOST_PORT, is_in_pool, ports_of
from llmctl.core.profile import Profile
from llmctl.core.replica_unit import has_replicas, replica_port

STEP = 10
"""Room for the usual number of replicas; one that has more takes several steps."""


def pool_ports(
    config: Config, profiles: Iterable[Profile], installed: Mapping[str, int]
) -> dict[str, int]:
    """The port of the first instance of each member of a pool; none for whom none is left.

    installed: the ports in the units of ours that there are, also of profiles that are gone or
    broken: these may run, and keep what they have.
    """
    known = {one.name: one for one in profiles}
    members = sorted((one for one in known.values() if is_in_pool(one, config)), key=_order)
    taken = {one.port for one in config.groups.values()}
    taken |= {port for one in known.values() for port in ports_of(one, config)}
    for name in installed.keys() - known.keys():
        taken |= set(range(installed[name], installed[name] + STEP))
    found: dict[str, int] = {}
    for one in members:
        port = installed.get(one.name)
        if port is not None and _is_of(config, one, port) and taken.isdisjoint(_span(one, port)):
            found[one.name] = port
            taken |= set(_span(one, port))
    for one in members:
        if one.name not in found:
            port = next((p for p in _all_of(config, one) if taken.isdisjoint(_span(one, p))), None)
            if port is not None:
                found[one.name] = port
                taken |= set(_span(one, port))
    return found


def _order(profile: Profile) -> tuple[str, str]:
    return profile.group, profile.name


def _span(profile: Profile, base: int) -> tuple[int, ...]:
    """The ports that it takes if its first instance listens on `base`."""
    numbers = range(2, profile.replicas.max + 1) if has_replicas(profile) else ()
    return (base, *(replica_port(base, number) for number in numbers))


def _all_of(config: Config, profile: Profile) -> Iterator[int]:
    first = config.groups[profile.group].port
    last = MOST_PORT - max(STEP, profile.replicas.max)
    yield from range(first + STEP, last + 1, STEP)


def _is_of(config: Config, profile: Profile, port: int) -> bool:
    first = config.groups[profile.group].port
    return port > first and (port - first) % STEP == 0
