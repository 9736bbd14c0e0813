"""Models that could not be started: for a while who asks is told why at once."""

from llmctl.core.proxy_settings import ProxySettings
from llmctl.errors import LlmctlError, TakenDownError
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.turns import Turns, stopped_by_hand

RETRY_AFTER_S = 10.0
"""How long a model that failed to start is not tried again."""
CUT = Trouble(
    503, "cut_by_switch", "Another model was waited for too long, and had to start.",
    retry_after_s=5,
)  # fmt: skip


class Failures:
    """What is known of them, and until when. Times are the caller's, in seconds."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Trouble]] = {}

    def note(self, model: str, error: LlmctlError, now: float) -> Trouble:
        """A switch has failed: what is told to whom waited for it. A model that somebody stopped
        while it was loading has not failed, and the next request may start it. What is held stays
        so: it was stopped for that."""
        held = self.of(model, now)
        if held is not None:
            return held
        if isinstance(error, TakenDownError):
            self.forget(model)
            return stopped_by_hand(model, model)
        trouble = Trouble(
            503, "switch_failed", f"{model} could not be started. {error.message}",
            retry_after_s=int(RETRY_AFTER_S),
        )  # fmt: skip
        self.hold(model, trouble, now + RETRY_AFTER_S)
        return trouble

    def hold(self, model: str, trouble: Trouble, until: float) -> None:
        """It is not tried again before then."""
        self._known[model] = until, trouble

    def of(self, model: str, now: float) -> Trouble | None:
        """Why it is not tried now."""
        failed = self._known.get(model)
        return failed[1] if failed is not None and now < failed[0] else None

    def keeps_out(
        self, turns: Turns, name: str, settings: ProxySettings, now: float
    ) -> Trouble | None:
        """Why a request for this model is not let in to wait for it."""
        if name in (turns.ready, turns.coming, turns.switching):
            return None
        if not settings.autoswitch:
            return Trouble(
                409, "not_active", f"{name} is not running. Type: llmctl switch {name}",
                retry_after_s=30,
            )  # fmt: skip
        failed = self.of(name, now)
        if failed is not None:
            return failed
        if len(turns.waiting) >= settings.max_queue:
            return Trouble(503, "queue_full", "Too many requests are waiting.", retry_after_s=10)
        return None

    def forget(self, model: str) -> None:
        """It runs, or may be tried."""
        self._known.pop(model, None)

    def clear(self) -> None:
        """What was wrong may be mended."""
        self._known.clear()
