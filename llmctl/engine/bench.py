"""Measures how fast a running model reads and writes, through its own port.

Nothing is switched for it. Each request begins with a number that no cache has seen, the first run
of each case is thrown away (a model that was just loaded is slower), and figures that requests of
others spoilt are not kept.
"""

import datetime
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from llmctl.core.bench import Case, Figures, Record, Sample, figures, sample_of, timings_of
from llmctl.core.bench_text import prompt, words
from llmctl.core.bench_words import is_drafting
from llmctl.core.draft_worth import cost_of, counterpart
from llmctl.core.progress import Note, Report, Waiting
from llmctl.engine import bench_log
from llmctl.engine.asking import Asker
from llmctl.engine.bench_target import Running, others, running
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.errors import HostError, UsageError
from llmctl.health import counters

PROMPTS = (512, 4096)
GENERATE = 128
RUNS = 5
_SAMPLE_WORDS = 200
_PROBE_TOKENS = 32
_WROTE = "llamacpp:tokens_predicted_total"
_TEMPLATE_TOKENS = 64
"""What a chat template and a prompt of about so many tokens may come to beyond them."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. prompts: empty for PROMPTS, as far as they fit. force: also beside requests
    of others."""

    prompts: tuple[int, ...] = ()
    generate: int = GENERATE
    runs: int = RUNS
    concurrency: int = 1
    force: bool = False


def _nonce() -> int:
    return secrets.randbits(64)


class Bench:
    """One benchmark of one running model. UsageError: it is not ready, or others use it."""

    def __init__(
        self, box: Box, name: str, wish: Wish, *, clock: Clock, report: Report,
        nonce: Callable[[], int] = _nonce,
    ) -> None:  # fmt: skip
        self._box, self._name, self._wish = box, name, wish
        self._clock, self._report, self._nonce = clock, report, nonce
        self._began = clock.now()
        self.target: Running = running(box, name)
        self._asker = Asker(box.host, self.target.port, clock, key=self.target.key)
        self._check_alone()

    def run(self) -> Iterator[Record]:
        """Each case, kept as soon as it is measured. Whatever ends this ends its requests."""
        cases = self._cases()
        with ThreadPoolExecutor(self._wish.concurrency) as self._pool:
            try:
                per_token = self._words_per_token()
                drafting = self._choices()
                for case in cases:
                    for one in drafting:
                        asked = msgspec.structs.replace(case, drafting=one)
                        yield self._kept(asked, self._measured(asked, per_token))
            finally:
                self._asker.give_up()

    # What to measure

    def _cases(self) -> list[Case]:
        wish, target = self._wish, self.target
        if wish.concurrency > target.slots:
            raise UsageError(
                f"{self._name} serves {target.slots} requests at once, not {wish.concurrency}.",
                hint=f"Ask for --concurrency {target.slots}, or say parallel: in its profile.",
            )
        room = target.ctx - wish.generate - _TEMPLATE_TOKENS
        sizes = wish.prompts or tuple(one for one in PROMPTS if one <= room) or (room,)
        if min(sizes) < 1 or max(sizes) > room:
            raise UsageError(
                f"{max(sizes)} + {wish.generate} tokens do not fit: a slot of {self._name} has"
                f" {target.ctx}, of which {_TEMPLATE_TOKENS} are left for the chat template.",
                hint="Ask for a smaller --prompt or --generate.",
            )
        return [
            Case(prompt=size, generate=wish.generate, concurrency=wish.concurrency)
            for size in sizes
        ]  # fmt: skip

    def _choices(self) -> tuple[bool, ...]:
        """Without and with a draft where a request can say so; later servers do not listen."""
        if not is_drafting(self.target.flags):
            return (True,)
        text = prompt(_SAMPLE_WORDS, seed=self._nonce())
        drafts = [
            self._asked(text, _PROBE_TOKENS, drafting=on).drafted for on in (True, False)
        ]  # fmt: skip
        return (False, True) if drafts[0] and not drafts[1] else (True,)

    def _words_per_token(self) -> float:
        answer = self._asker.post(
            "/tokenize", {"content": words(_SAMPLE_WORDS, seed=self._nonce())}
        )
        try:
            count = len(msgspec.json.decode(answer.body)["tokens"])
        except (msgspec.DecodeError, KeyError, TypeError):
            raise HostError(f"{self._name} does not count tokens: {_said(answer.body)}") from None
        return _SAMPLE_WORDS / max(1, count)

    # One case

    def _measured(self, case: Case, per_token: float) -> Figures:
        count = max(1, int(case.prompt * per_token))
        rounds = []
        for number in range(self._wish.runs + 1):
            self._check_alone()
            self._tell(case, number)
            done = self._round(case, count)
            if number:
                rounds.append(done)
        return figures(rounds)

    def _round(self, case: Case, count: int) -> tuple[float, Sequence[Sample]]:
        """The requests of one run, at once. Those of others in between spoil it."""
        texts = [prompt(count, seed=self._nonce()) for _ in range(case.concurrency)]
        before, began = self._written(), self._clock.now()
        asked = [
            self._pool.submit(self._asked, text, case.generate, drafting=case.drafting)
            for text in texts
        ]  # fmt: skip
        try:
            samples = [one.result() for one in asked]
        except BaseException:
            self._asker.give_up()  # before the pool waits for the others
            raise
        wall = self._clock.now() - began
        after, ours = self._written(), sum(one.tokens for one in samples)
        if before is not None and after is not None and after - before > ours:
            self._refuse("other requests came in between")
        return wall, samples

    def _asked(self, text: str, generate: int, *, drafting: bool) -> Sample:
        body: dict[str, Any] = {
            "model": self._name, "messages": [{"role": "user", "content": text}], "stream": True,
            "max_tokens": generate, "ignore_eos": True, "cache_prompt": False, "seed": 1,
        }  # fmt: skip
        if not drafting:
            body["speculative.n_max"] = 0
        answer = self._asker.post("/v1/chat/completions", body)
        if answer.status != 200:
            raise HostError(f"{self._name} answers {answer.status}: {_said(answer.body)}")
        try:
            timings = timings_of(answer.body)
            if timings is None:
                raise HostError(f"{self._name} stopped in the midst of an answer.")
            return sample_of(timings, ttft_s=answer.first_s, wall_s=answer.whole_s)
        except ValueError as error:
            raise HostError(f"{self._name} failed to answer: {error}") from None

    # Others

    def _check_alone(self) -> None:
        if found := others(self._box, self.target.port, self.target.key):
            self._refuse(found)

    def _refuse(self, why: str) -> None:
        if not self._wish.force:
            raise UsageError(
                f"The speed of {self._name} cannot be told: {why}.",
                hint="Wait until they have ended (`llmctl status`), or measure with --force.",
            )

    def _written(self) -> float | None:
        samples = counters(self._box.host, self.target.port, key=self.target.key)
        return samples.get(_WROTE)

    # What comes of it

    def _tell(self, case: Case, number: int) -> None:
        runs = self._wish.runs
        what = f"{case.told}: " + (f"run {number} of {runs}" if number else "warming up")
        elapsed = self._clock.now() - self._began
        self._report(Waiting(what, elapsed, number / (runs + 1)))

    def _kept(self, case: Case, found: Figures) -> Record:
        target = self.target
        made = Record(
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            profile=self._name, build=target.build, flags=target.flags, digest=target.digest,
            case=case, figures=found,
        )  # fmt: skip
        alone = counterpart(made, bench_log.known(self._box)) if found.drafted else None
        if alone:
            made = msgspec.structs.replace(made, draft_cost=cost_of(made, alone))
        if self._wish.force:
            return made  # it may be wrong, so nothing is to be compared with it
        try:
            bench_log.keep(self._box, [made])
        except HostError as error:
            self._report(Note(f"it was not kept: {error.message}"))
        return made


def _said(body: bytes) -> str:
    """A server's complaint."""
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body[:200].decode(errors="replace") or "nothing"
