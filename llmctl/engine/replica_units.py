"""The template of a profile's further instances, as it is installed, and what runs of it."""

from llmctl import __version__
from llmctl.core.proc import parse_port
from llmctl.core.replica_unit import has_replicas, replica_context, replica_port
from llmctl.core.unit import UnitFile, read_header, render_unit, source_digest
from llmctl.core.words import replica_template, replica_unit_name
from llmctl.engine.box import Box, Resolved
from llmctl.store.data import template

TEMPLATE = "llm@.service"


def replica_file(box: Box, resolved: Resolved, *, anew: bool = False) -> UnitFile | None:
    """The template's text; None: the profile has no replicas. One that was made from the same is
    taken as it is, unless `anew`."""
    profile = resolved.profile
    if not has_replicas(profile):
        return None
    name, text = replica_template(profile.name), template(TEMPLATE)
    variables = replica_context(profile, resolved.argv, resolved.place)
    installed = box.store.unit_text(name)
    source = source_digest(text, variables)
    if not anew and installed is not None and read_header(installed).source == source:
        return UnitFile(name, installed)
    return render_unit(name, text, variables, version=__version__)


def port_of_replica(box: Box, profile: str, number: int, *, pid: int = 0) -> int:
    """Where a replica listens; 0: unknown. pid: of its process, which knows best."""
    if pid and (told := parse_port(box.read_proc(pid, "cmdline"))):
        return told
    base = read_header(box.store.unit_text(replica_template(profile))).port
    return 0 if base is None else replica_port(base, number)


def running_replicas(box: Box, profile: str) -> tuple[str, ...]:
    """Units of a profile's replicas that are not plainly stopped."""
    return box.systemd.lively(replica_unit_name(profile, 0).replace("@0", "@*"))
