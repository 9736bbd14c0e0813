"""Rules between the profiles of a box: names and ports are each somebody's alone."""

from collections.abc import Iterable, Iterator, Mapping

from llmctl.core.config import Config
from llmctl.core.profile import Profile
from llmctl.core.profile_rules import Complaint


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
        if names.get(other, profile.name) == profile.name:
            yield ("fallback", index), f"there is no other profile {other}"
    if profile.port is not None:
        yield from _port_clashes(profile.port, rest, config)


def _port_clashes(port: int, rest: Iterable[Profile], config: Config) -> Iterator[Complaint]:
    residents = {one.port: one.name for one in rest}
    if port in residents:
        yield ("port",), f"{port} is {residents[port]}'s"
    groups: Mapping[int, str] = {group.port: name for name, group in config.groups.items()}
    if port in groups:
        yield ("port",), f"{port} is group {groups[port]}'s"
