"""Why a model did not become ready, in a clause, with the evidence and what to type next."""

import msgspec

from llmctl.core.state import Health
from llmctl.core.verdict import Crashed, Gone, Impostor, Outcome, Ready, Stalled
from llmctl.engine.box import Box, Target
from llmctl.engine.clock import Clock
from llmctl.engine.evidence import evidence, explain
from llmctl.engine.gpu_reports import gpu_cause
from llmctl.engine.ports import holders
from llmctl.errors import SwitchError


class Failure(msgspec.Struct, frozen=True):
    """The clause that follows "NAME failed:", a hint, and the server's last lines."""

    what: str
    hint: str
    lines: tuple[str, ...] = ()

    def error(self, kind: type[SwitchError], message: str) -> SwitchError:
        """The error that says so."""
        return kind(message, hint=self.hint, evidence=self.lines)


def failure(box: Box, target: Target, outcome: Outcome, clock: Clock) -> Failure:
    """The failure that an outcome stands for."""
    logs = f"See `llmctl logs {target.profile}`."
    match outcome:
        case Crashed(status):
            lines = evidence(box, status, clock)
            cause = explain(box, target.port, status, lines)
            return Failure(cause.what, cause.hint, tuple(lines))
        case Gone(status, fresh=True):
            why = "it was stopped, or ended by itself, before it was ready"
            return Failure(why, logs, tuple(evidence(box, status, clock)))
        case Gone():
            again = f"Run `llmctl switch {target.profile}` again."
            return Failure("its start was cancelled by a stop", again)
        case Stalled(status, health, seconds):
            lines = evidence(box, status, clock)
            if (known := gpu_cause(box, status)) is not None:
                return Failure(known.what, known.hint, tuple(lines))
            more = f"{logs} Or allow more: --timeout 600."
            return Failure(_stalled(health, seconds), more, tuple(lines))
        case Impostor(status, alias):
            return _impostor(box, target, alias, tuple(evidence(box, status, clock)))
        case Ready():
            raise AssertionError("a ready model has not failed")


def _stalled(health: Health, seconds: float) -> str:
    doing = {
        Health.SILENT: "it does not answer on its port",
        Health.LOADING: "it still says that it is loading",
        Health.ODD: "its /health answers as no llama-server does",
        Health.READY: "it is not ready",
    }[health]
    return f"{doing}, and nothing has moved for {seconds:.0f} s"


def _impostor(box: Box, target: Target, alias: str | None, lines: tuple[str, ...]) -> Failure:
    """A wrong name on the port: our own server's, or a stranger's who got there first."""
    found = holders(box, target.port)
    if any(one.unit == target.unit for one in found):
        return Failure(
            f"its server answers as {alias or 'a model without a name'}",
            "Check binaries: in config.yaml and --alias in args; a wrapper may change it.",
            lines,
        )
    by = "; ".join(map(str, found)) or "somebody"
    return Failure(f"port {target.port} is taken by {by}", "Stop that, then switch again.", lines)
