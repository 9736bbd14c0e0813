"""llmctl status"""

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, VerboseOption
from llmctl.cli.overview import show_overview


def status(
    host: HostOption = LOCAL, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """What is active, ready, loading or failed."""
    show_overview(open_box(host, verbose=verbose), as_json=json)
