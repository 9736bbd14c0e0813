"""Profile -> the template of its further instances' units, `llm-NAME@.service`.

systemd cannot add numbers, so a shell works out the port from the instance's number, and becomes
the server: there is one process, with the server's own argv. The shell also holds to `max`, for
those who start an instance by hand.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llmctl.core.profile import Profile
from llmctl.core.unit import PROCESS_VARIABLE, Placement, context, exec_start, process_digest, quote
from llmctl.core.words import replica_template, unit_name


def has_replicas(profile: Profile) -> bool:
    """May further instances of it run?"""
    return profile.replicas.max > 1


def thread_share(profile: Profile) -> int | None:
    """CPU threads of each further instance: an equal part of the profile's; None: not given."""
    return None if profile.threads is None else max(1, profile.threads // profile.replicas.max)


def replica_port(base: int, number: int) -> int:
    """Where an instance listens. base: the port of the first."""
    return base + number if number > 1 else base


def replica_argv(argv: Sequence[str], *, threads: int | None) -> tuple[str, ...]:
    """The first instance's argv without its port, and with another count of threads."""
    at = argv.index("--port")
    words = [*argv[:at], *argv[at + 2 :]]
    if threads is not None:
        words[words.index("-t") + 1] = str(threads)
    return tuple(words)


def replica_context(profile: Profile, argv: Sequence[str], place: Placement) -> Mapping[str, Any]:
    """What the template is filled with. argv, place: the first instance's."""
    words = replica_argv(argv, threads=thread_share(profile))
    made = context(profile, words, place)
    command = _command(words, base=place.port, most=profile.replicas.max)
    log_file = made["log_file"]
    return {
        **made,
        "unit": replica_template(profile.name),
        "first": unit_name(profile.name),
        "description": f"Model {profile.name}@%i (llmctl)",
        "exec_start": command,
        "process": f"{PROCESS_VARIABLE}={process_digest(command, made['environment'])}",
        "log_file": log_file and f"{log_file.removesuffix('.log')}@%i.log",
    }


def _command(words: Sequence[str], *, base: int, most: int) -> str:
    """systemd fills in the number as %i; the shell has it as its $0."""
    script = f'[ $0 -gt 1 ] && [ $0 -le {most} ] && exec "$@" --port $(({base} + $0))'
    return f"sh -c {quote(script.replace('$', '$$'))} %i \\\n  {exec_start(words)}"
