"""From a fresh box to a serving one: Ansible does it, with what this machine knows of the box."""

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from llmctl import __version__
from llmctl.core.provisioning import Outcome, Wish, again, inventory, words
from llmctl.errors import HostError, UnreachableError, UsageError
from llmctl.host.attached import run_attached
from llmctl.store.data import data_dir, is_checkout
from llmctl.store.places import Places

INSTALL = "pipx inject llmctl ansible-core, or: python3 -m pip install 'llmctl[provision]'"


def provision(here: Places, box: str, target: str, wish: Wish, *, profiles: str | None) -> Outcome:
    """Run ansible/site.yml on a box, and tell how it went. here: the machine one types at.

    profiles: a directory of profiles that the box gets; this machine's own where it is None.
    UsageError: Ansible is not installed, or a file is not there. UnreachableError: the box does not
    answer. HostError: a task failed.
    """
    program, site = _program(), data_dir() / "ansible" / "site.yml"
    given = wish.files
    for file in given:
        if not Path(file).is_file():
            raise UsageError(f"There is no file {file}.", hint="Say where it is: --vars FILE")
    wish = msgspec.structs.replace(wish, files=(*_usual_files(here, box), *given))
    made = inventory(box, target, _variables(here, profiles))
    try:
        with tempfile.TemporaryDirectory(prefix="llmctl-") as name:
            status, found = _play(Path(name), program, site, made, wish)
    except OSError as error:
        raise HostError(
            f"The inventory cannot be written: {error}.",
            hint="Make room there, or name another place: TMPDIR=DIR llmctl provision ...",
        ) from None
    if status == 0 and found is not None:
        return found
    raise _failure(box, found, again(box, wish, given, profiles))


def _play(
    place: Path, program: tuple[str, ...], site: Path, made: dict[str, Any], wish: Wish
) -> tuple[int, Outcome | None]:
    """One run: the exit status of Ansible, and how it went. place: an empty directory of ours."""
    told, outcome = place / "inventory.json", place / "outcome.json"
    told.write_bytes(msgspec.json.encode(made))
    argv = (*program, *words(str(told), str(site), wish))
    status = run_attached(argv, environ=_environ(site, outcome, verbose=wish.verbose))
    return status, _outcome(outcome)


def _program() -> tuple[str, ...]:
    if importlib.util.find_spec("ansible") is not None:
        return (sys.executable, "-m", "ansible", "playbook")
    if found := shutil.which("ansible-playbook"):
        return (found,)
    raise UsageError(
        "llmctl provision needs Ansible, and this machine has none.", hint=f"Install it: {INSTALL}"
    )


def _usual_files(here: Places, box: str) -> tuple[str, ...]:
    """Variables for all boxes, and for this one, where a person has written any."""
    usual = (f"{here.config_dir}/provision.yaml", f"{here.config_dir}/provision/{box}.yaml")
    return tuple(path for path in usual if Path(path).is_file())


def _variables(here: Places, profiles: str | None) -> dict[str, Any]:
    where = profiles or f"{here.config_dir}/profiles"
    if profiles and not Path(profiles).is_dir():
        raise UsageError(
            f"There is no directory {profiles}.", hint="Say where it is: --profiles DIR"
        )
    found: dict[str, Any] = {
        "llmctl_source": "checkout" if is_checkout() else f"llmctl=={__version__}"
    }
    if any(Path(where).glob("*.yaml")):
        found["llmctl_profiles_from"] = where
    return found


def _environ(site: Path, outcome: Path, *, verbose: bool) -> Mapping[str, str]:
    """verbose: all that Ansible itself says."""
    found = {
        "ANSIBLE_CONFIG": str(site.parent / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(site.parent / "callback_plugins"),
        "LLMCTL_OUTCOME": str(outcome),
        "LC_ALL": "C.UTF-8",
    }
    key = "ANSIBLE_CALLBACKS_ENABLED" if verbose else "ANSIBLE_STDOUT_CALLBACK"
    return {**found, key: "llmctl"}


def _outcome(path: Path) -> Outcome | None:
    """None: it ended before it could tell."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Outcome)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _failure(box: str, found: Outcome | None, line: str) -> HostError:
    hint = f"Mend that, then type again: {line}"
    if found is None or found.failed is None:
        return HostError(f"{box} is not provisioned: see above.", hint=hint)
    failed = found.failed
    kind = UnreachableError if failed.unreachable else HostError
    message = f"{box} is not provisioned: on {failed.host}, at “{failed.task}”: {failed.said}"
    return kind(message, hint=hint)
