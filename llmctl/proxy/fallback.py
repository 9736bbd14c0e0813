"""Who answers in a model's stead, and when: chains, what counts as a failure, and cool-downs.

Pure: facts in, decisions out. `Walk` is one request's way along its chain; falling.py does what it
says. Rules:

- The chain of a model is its own `fallback` list, then those of the models in it, list by list,
  each name once: so cycles end.
- A model is left that could not be started, went away, hung, or failed (5xx); one whose context is
  too small only for one whose context is larger. For the client's own faults (4xx) none is.
- A model or box that failed twice in a row, or could not be started, is asked last for a while:
  10 s, and twice as long after each further failure, up to 5 min. Where all rest, none does.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from llmctl.core.guard.settings import GuardSettings
from llmctl.proxy.dialect import Trouble
from llmctl.proxy.routing import Far, Served, Table

FIRST_REST_S = 10.0
MOST_REST_S = 300.0
TOGETHER_S = 1.0
"""What fails within so much time of the last failure failed with it: sixteen requests that end
with one crash are one failure."""
ENOUGH = 2
"""Failures in a row after which an instance rests; one start that failed is enough."""

_LEFT = {
    "switch_failed": "start", "given_up": "start", "no_answer": "crash", "upstream_died": "crash",
    "stream_ended": "crash", "hung": "hang", "stalled": "hang",
}  # fmt: skip
"""Troubles of ours for which a model is left. Not among them: what a person did (`stopped`), what
the queue says (`queue_full`, `cut_by_switch`), and what the client did."""
_FAILED = frozenset({500, 502, 503, 504})
_NOT_OURS = frozenset({401, 403, 404, 408, 409, 429})
"""Of another box: it is not the client who is not let in there, or has the name wrong."""
_OVERFLOW = "exceed_context_size_error"
_BY_PEOPLE = frozenset({"stopped", "proxy_stopped"})


class Failure(msgspec.Struct, frozen=True):
    """Why a model is left. why: in a word, for counts. need: tokens of context that the next one
    must have more than; 0: no matter."""

    why: str
    told: str
    need: int = 0


# What is a failure


def of_trouble(trouble: Trouble, *, is_first: bool) -> Failure | None:
    """An error of ours. is_first: of the model that was asked for; once that was left, whatever
    keeps another from answering leads on. None: the client gets it."""
    why = _LEFT.get(trouble.kind)
    if why is None and not is_first and trouble.kind not in _BY_PEOPLE:
        why = "refused"
    return Failure(why, trouble.message) if why is not None else None


def of_answer(status: int, body: bytes, *, is_far: bool = False) -> Failure | None:
    """A whole answer that is no success."""
    error = _error_in(body)
    if status == 400 and error.type == _OVERFLOW:
        return _overflow(error)
    if status in _FAILED:
        return Failure("error", error.message or f"it answered {status}")
    if is_far and status in _NOT_OURS:
        return Failure("refused", error.message or f"it answered {status}")
    return None


def of_event(event: bytes) -> Failure | None:
    """The first event of a stream, where it is an error."""
    lines = event.split(b"\n")
    told = next((one for one in lines if one.startswith((b"data:", b"error:"))), b"")
    is_error = told.startswith(b"error:") or any(
        one.startswith(b"event:") and one[6:].strip() == b"error" for one in lines
    )
    data = told.partition(b":")[2].strip()
    if not is_error and not data.startswith(b'{"error"'):
        return None
    return _of_error(_error_in(data))


def may_fail(status: int, *, is_far: bool) -> bool:
    """Is an answer of this status to be read to its end before anybody gets it?"""
    return status in _FAILED or status == 400 or (is_far and status in _NOT_OURS)


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""
    code: int | str | None = None
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _Envelope(msgspec.Struct):
    error: _Error | None = None


def _error_in(body: bytes) -> _Error:
    """OpenAI's envelope and Anthropic's have it as `error`; llama-server's events may be it."""
    try:
        found = msgspec.json.decode(body, type=_Envelope).error
        return found or msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _Error()


def _of_error(error: _Error) -> Failure | None:
    if error.type == _OVERFLOW:
        return _overflow(error)
    code = str(error.code or "")
    ours = code.removeprefix("llmctl_")
    if error.type.startswith("llmctl_") or code.startswith("llmctl_"):
        why = _LEFT.get(ours)
        return Failure(why, error.message) if why else None
    is_client = code.isdigit() and 400 <= int(code) < 500
    return None if is_client else Failure("error", error.message or "it answered with an error")


def _overflow(error: _Error) -> Failure:
    """`n_prompt_tokens` is at least `n_ctx`, and other words are other tokens: a context that is
    larger than both may do."""
    return Failure("context", error.message, need=max(error.n_prompt_tokens, error.n_ctx, 1))


# Who is next


def chain(table: Table, name: str, allowed: Collection[str] | None) -> tuple[Served, ...]:
    """Who may answer for a profile, itself first. allowed: what a key may use; None: all."""
    found, lists = {name: table.served[name]}, deque([table.served[name].fallback])
    while lists:
        for one in lists.popleft():
            served = there(one) if isinstance(one, Far) else _meant(table, one)
            if served is None or served.name in found:
                continue
            if allowed is None or served.name in allowed:
                found[served.name] = served
                lists.append(served.fallback)
    return tuple(found.values())


def _meant(table: Table, word: str) -> Served | None:
    """A name or an alias; None: it is gone by now."""
    return table.served.get(table.names.get(word, ""))


def there(far: Far) -> Served:
    """A model of another box, which guards it itself."""
    return Served(
        name=f"{far.box}/{far.model}", group=None, port=far.port, key=far.key,
        guard=GuardSettings(mode="off"), far=far,
    )  # fmt: skip


class Walk:
    """One request's way along a chain. asked: the model that it asked for. tried: who was left, and
    why. need: see Failure."""

    def __init__(
        self, steps: Sequence[Served], rests: Callable[[Served], bool] = lambda _: False
    ) -> None:
        resting = [one for one in steps if rests(one)]
        awake = [one for one in steps if one not in resting]
        self.asked = steps[0].name
        self._left = deque([*awake, *resting])
        self.at = self._left.popleft()
        self.tried: list[tuple[str, Failure]] = []
        self.need = 0
        if self.at.name != self.asked:
            self.tried.append((self.asked, Failure("resting", "it failed a short while ago")))

    @property
    def is_first(self) -> bool:
        """Is it still the first that is asked?"""
        return not self.tried

    @property
    def next(self) -> Served | None:
        """Who comes next, as far as is known: of another box the context may not be."""
        return next(self._able(), None)

    def _able(self) -> Iterator[Served]:
        for one in self._left:
            if not self.need or one.far is not None or (one.ctx or 0) > self.need:
                yield one

    def failed(self, failure: Failure) -> None:
        """The one that was asked is left."""
        self.tried.append((self.at.name, failure))
        self.need = max(self.need, failure.need)

    def goes_on(self) -> Served | None:
        """To the next; None: there is nobody."""
        found = self.next
        if found is not None:
            self._left.remove(found)
            self.at = found
        return found

    @property
    def passed(self) -> tuple[str, ...]:
        """Those before the one that is asked now."""
        names = dict.fromkeys(name for name, _ in self.tried)
        return tuple(name for name in names if name != self.at.name)

    def told(self, trouble: Trouble) -> Trouble:
        """What a client gets whom nobody could answer: the error of the one that it asked for, and
        what became of the others."""
        others = [
            f"{name}: {failure.told}" for name, failure in self.tried
            if name != self.asked and failure.told
        ]  # fmt: skip
        if not others:
            return trouble
        more = f"{trouble.message} Nor could those that stand in for it. {' '.join(others)}"
        return msgspec.structs.replace(trouble, message=more)


# Rests


class _Rest(msgspec.Struct):
    failures: int = 0
    last: float = -math.inf
    until: float = 0.0
    rests_s: float = 0.0
    is_start: bool = False


class Rests:
    """Who failed, and is asked last for a while. Times are the caller's, in seconds."""

    def __init__(self) -> None:
        self._known: dict[str, _Rest] = {}

    def failed(self, name: str, why: str, now: float) -> float:
        """It did; a rest that begins with it, in seconds, else 0."""
        if why in ("context", "refused", "resting"):
            return 0.0
        one = self._known.setdefault(name, _Rest())
        if now < one.until or now - one.last < TOGETHER_S:
            return 0.0
        one.failures, one.last, one.is_start = one.failures + 1, now, why == "start"
        if one.failures < ENOUGH and not one.is_start:
            return 0.0
        one.rests_s = min(2 * one.rests_s, MOST_REST_S) if one.rests_s else FIRST_REST_S
        one.until = now + one.rests_s
        return one.rests_s

    def well(self, name: str) -> None:
        """It has answered."""
        self._known.pop(name, None)

    def is_resting(self, name: str, now: float, *, is_ready: bool = False) -> bool:
        """Is it asked last? is_ready: it runs by now, whoever started it."""
        one = self._known.get(name)
        return one is not None and now < one.until and not (one.is_start and is_ready)

    def left(self, now: float) -> dict[str, float]:
        """Seconds that are left, of all that rest."""
        return {name: one.until - now for name, one in self._known.items() if now < one.until}

    def clear(self) -> None:
        """Somebody has changed the configuration: what was wrong may be mended."""
        self._known.clear()
