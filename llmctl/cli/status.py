"""llmctl status"""

from llmctl.cli.boxes import open_box
from llmctl.cli.options import HostsOption, JsonOption, VerboseOption
from llmctl.cli.overview import show_overview
from llmctl.cli.several import names_of


def status(
    host: HostsOption = None, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """What is active, ready, loading or failed."""
    names = names_of(host)
    if len(names) == 1:
        show_overview(open_box(names[0], verbose=verbose), as_json=json)
        return
    from llmctl.cli.overviews import show_overviews

    show_overviews(names, as_json=json, verbose=verbose)
