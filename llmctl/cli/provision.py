"""llmctl provision"""

from pathlib import Path
from typing import Annotated

import typer

from llmctl.cli.boxes import LOCAL, target_of
from llmctl.cli.options import JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json
from llmctl.core.provisioning import Wish
from llmctl.engine.provision import provision as run
from llmctl.host.local import LocalHost
from llmctl.store.places import Places


def provision(
    box: Annotated[str, typer.Argument(metavar="BOX", help="A box of hosts.yaml, or ssh's name.")],
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; show what would change.")
    ] = False,
    tags: Annotated[
        str | None, typer.Option(metavar="ROLE,...", help="Only these roles; base is one of them.")
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option("--vars", metavar="FILE", help="Variables of the roles; again for more."),
    ] = None,
    profiles: Annotated[
        str | None, typer.Option(metavar="DIR", help="The profiles it gets; this machine's own.")
    ] = None,
    ask_become_pass: Annotated[
        bool, typer.Option("--ask-become-pass", "-K", help="Ask for the password of sudo there.")
    ] = False,
    ask_vault_pass: Annotated[
        bool, typer.Option("--ask-vault-pass", help="Ask for that of files of variables.")
    ] = False,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take a fresh box to one that serves models, with Ansible."""
    wish = Wish(
        check=check, tags=tags, ask_become_pass=ask_become_pass, ask_vault_pass=ask_vault_pass,
        verbose=verbose, files=tuple(str(Path(one).absolute()) for one in variables or ()),
    )  # fmt: skip
    target = LOCAL if box == LOCAL else target_of(box)
    directory = str(Path(profiles).absolute()) if profiles else None
    done = run(Places(LocalHost()), box, target, wish, profiles=directory)
    if json:
        answer_json({"host": box, "check": check, "ok": done.ok, "changed": done.changed})
    elif check:
        answer(f"{box}: {done.changed} tasks would change something")
    else:
        answer(f"{box} is provisioned: {done.changed} tasks changed something")
