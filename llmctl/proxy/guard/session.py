"""The guard of one answer, from its first event to its last.

Each event is read, and each text in it goes to a detector. While one has doubts, the event and all
after it are held back; they go out unchanged as soon as the text has moved on. Once a detector is
certain, the mildest step that is left is taken: the reasoning is ended; the answer is cut and asked
for again; it is stopped, and says so.
"""

from collections.abc import Iterable, Iterator

import msgspec

from llmctl.core.guard.verdict import Channel, Loop
from llmctl.proxy.guard.event import Event, parsed, split
from llmctl.proxy.guard.hold import Hold
from llmctl.proxy.guard.plan import Plan
from llmctl.proxy.guard.replay import replayed, said_before
from llmctl.proxy.guard.shape import SPECIAL
from llmctl.proxy.guard.shaped import Likely, Shaped
from llmctl.proxy.guard.splice import passed
from llmctl.proxy.guard.splices import splice_for
from llmctl.proxy.guard.steps import MOST_DROPPED, Found, Step, mildest
from llmctl.proxy.guard.tally import Tally
from llmctl.proxy.guard.texts import MOST_KEPT, Makes, Text, Texts

_MOST_ODD = 8  # events at the ends of a read: a role, a finish, [DONE]


class Session(Shaped):
    """One answer. wants: the step that the relay is to take, until it takes it. findings: all
    loops. is_over: it was stopped."""

    def __init__(self, plan: Plan, detector: Makes, likely: Likely | None = None) -> None:
        super().__init__(likely)
        self.plan = plan
        self._endpoint = plan.endpoint
        self.texts = Texts(detector, plan.settings.window)
        self._hold = Hold()
        self.tally = Tally()
        self._splice = splice_for(plan, self.tally, self.texts)
        self.wants: Step | None = None
        self.findings: list[Found] = []
        self.attempt = self._dropped = 0
        self.has_ended_reasoning = self.is_over = False
        self._is_deaf = self._holds = False
        self._is_new = True  # no event has gone out: it is not known which answer it is
        self._acts = plan.settings.mode == "on"
        self._seam = b""
        """What joins two attempts; it goes out with the first of the second."""
        self._dropping: Text | None = None
        self._text = self.texts.of(0, Channel.CONTENT)

    @property
    def completion(self) -> str | None:
        """The id that the server knows the answer by."""
        return self._splice.completion

    @property
    def tokens(self) -> int:
        """About as many as were generated, in all attempts."""
        return self.tally.tokens + self.texts.tokens

    # Events

    def feed(self, data: bytes) -> bytes:
        """Whole events of the server; gives those that may go to the client now."""
        if data.startswith(self._before) and data.endswith(self._after):
            piece = data[self._from : self._to]
            if piece.translate(None, SPECIAL) == piece:
                text = self._text
                text.pieces.append(piece)
                total = text.total = text.total + len(piece)
                if text.feed(piece) >= total and not self._holds:
                    text.sent = total
                    return data
                return self._doubtful([data], text, [len(piece)])
            out = self._heard(data)
            if out is not None:
                return out
        if self._is_deaf:
            return b""
        several = b"\r" in data or data.find(b"\n\n", 0, -2) >= 0
        return b"".join(self._mixed(data)) if several else self._take(data)

    def _mixed(self, data: bytes) -> Iterator[bytes]:
        """Several events, of which those in the middle may be alike."""
        for _ in range(0 if b"\r" in data else _MOST_ODD):
            upto = data.rfind(self._after, len(self._before)) + len(self._after)
            if upto >= len(self._before + self._after) and data.startswith(self._before):
                out = self._heard(data[:upto])
                if out is None:
                    break
                yield out
            else:
                upto = data.find(b"\n\n") + 2
                yield self.feed(data[:upto] if upto > 1 else data)
            data = data[upto:] if upto > 1 else b""
            if not data:
                return
        events = split(data)
        yield from map(self.feed, events) if len(events) > 1 else [self._take(data)]

    def _heard(self, data: bytes) -> bytes | None:
        """Events of the common shape, several or with escapes: their texts are looked at as one,
        which changes nothing but for those behind a loop. None: they are something else."""
        said = self._shape.told(data) if self._text.total <= MOST_KEPT else None
        if said is None:
            return None
        text, piece = self._text, "".join(said).encode()
        if text.take(piece, len(said)) and not self._holds:
            text.sent = text.total
            return data
        sizes = [len(one.encode()) for one in said]
        events = self._shape.events(data)
        upto = text.certain_after(sizes)
        if upto == len(sizes):
            return self._doubtful(events, text, sizes)
        text.give_back(sizes[upto:])
        out = self._doubtful(events[:upto], text, sizes[:upto])
        return out + self.feed(b"".join(events[upto:]))

    def _take(self, raw: bytes) -> bytes:
        """Any event."""
        if self._is_likely(raw):
            return self.feed(raw)
        event = parsed(raw, self._endpoint)
        if event.is_comment:
            return raw
        if self._dropping is not None and self._is_dropped(event, self._dropping):
            return self._escalated() if self._dropped > MOST_DROPPED else b""
        out, marks, goes = b"", [], True
        for delta in event.deltas:
            text = self.texts.of(delta.choice, delta.channel)
            if text is not self._text:
                out += self._moved_on(text)
            goes &= text.take(delta.text)
            marks.append((text, text.total))
        if event.ends:  # a text that ends by itself was no loop
            self._dropping, goes = None, True
        elif self.attempt or self._dropping:
            self._forget_shape()  # only the first attempt goes out as it comes
        else:
            self._learn(event, self._endpoint)
        if goes and not (self._holds or self._seam):
            for text, end in marks:
                text.sent = end
            told = passed(self._splice, event)
            self._is_new &= event.ends or not (told and event.told)
            return out + told
        self._hold.put(event, tuple(marks))
        return out + (self._all() if event.ends else self._released([one for one, _ in marks]))

    def _moved_on(self, text: Text) -> bytes:
        """The model has begun another text: what it held in the one before has ended."""
        before, self._text = self._text, text
        self._forget_shape()
        return self._all() if before.choice == text.choice else b""

    def _doubtful(self, events: list[bytes], text: Text, sizes: list[int]) -> bytes:
        """Events of the common shape that may not go out at once. sizes: of their texts."""
        self._hold.add(events, text, sizes)
        return self._released((text,))

    def _released(self, texts: Iterable[Text]) -> bytes:
        out = self._out(self._hold.safe())
        self._holds = bool(self._hold)
        for text in texts:
            if text.is_watched and text.detector.loop is not None:
                return out + self._found(text, text.detector.loop)
            if text.total > MOST_KEPT:
                text.release()
        if self._holds and (not self._acts or self._hold.is_full):
            out += self._all()
        return out

    def _all(self) -> bytes:
        """What is held goes out."""
        self._holds = False
        return self._out(self._hold.safe(every=True))

    def _out(self, events: Iterable[bytes | Event]) -> bytes:
        found = b"".join([passed(self._splice, event) for event in events])
        if self._seam and found:
            found, self._seam = self._seam + found, b""
        return found

    def _is_likely(self, raw: bytes) -> bool:
        """Has it the shape of earlier events, but for an id or a time? It is known from now on."""
        if self.attempt or self._holds or self._dropping or self._is_new:
            return False
        shape = self._renewed(raw)
        if shape is None or shape.choice != self._text.choice:
            return False  # it may be the first of its choice
        text = self.texts.of(shape.choice, shape.channel)
        if text is not self._text:
            self._moved_on(text)
        self._takes(shape)
        return True

    # Loops

    def _found(self, text: Text, loop: Loop) -> bytes:
        self.wants = step = self._next(text, loop)
        if step is Step.NOTE:
            self._note(text, loop, step, 0)
            text.release()
            return self._all()
        return self._taken(text, loop, step)

    def _next(self, text: Text, loop: Loop) -> Step:
        if not self._acts:
            return Step.NOTE
        if self.texts.has_called or not self.texts.is_single:
            return Step.STOP
        has_way = self.completion is not None and not self.has_ended_reasoning
        return mildest(
            self.plan, text.channel, loop, attempt=self.attempt, may_end_reasoning=has_way
        )

    def _taken(self, text: Text, loop: Loop, step: Step) -> bytes:
        """Of what is held nothing goes out any more."""
        self._forget_shape()
        if step is Step.END_REASONING:
            held = self._hold.drop(text)
            self.has_ended_reasoning, self._dropping, self._dropped = True, text, 0
        else:
            held, self._is_deaf = self._hold.drop(), True
        self._looping, self._holds = (text, loop), bool(self._hold)
        self._note(text, loop, step, held)
        if step is Step.RETRY:
            return b""  # it is said once it is known that it can be asked again
        return self.comment + self.stopped() if step is Step.STOP else self.comment

    def _note(self, text: Text, loop: Loop, step: Step, held: int) -> None:
        tokens, attempt = self.texts.tokens, self.attempt + 1
        self.findings.append(Found(text.channel, loop, step, attempt, tokens, held))

    @property
    def comment(self) -> bytes:
        """What is said in the stream of the last loop."""
        return self.findings[-1].comment(self.plan.settings.retries)

    # Ending the reasoning

    def _is_dropped(self, event: Event, text: Text) -> bool:
        """Is it the rest of the reasoning that is being ended?"""
        if event.ends or event.told is None:
            return False
        if any(self.texts.of(one.choice, one.channel) is not text for one in event.deltas):
            self._dropping = None
            return False
        self._dropped += len(event.deltas)
        text.uncounted += len(event.deltas)  # they were generated
        return bool(event.deltas)

    def _escalated(self) -> bytes:
        """It does not end: the next step."""
        self._dropping = None
        self.wants = step = self._next(*self._looping)
        return self._taken(*self._looping, step)

    def not_ended(self) -> bytes:
        """The server did not end the reasoning when it was asked to."""
        return b"" if self._dropping is None else self._escalated()

    # Asking again

    def again(self, raw: object, *, ms: float) -> bytes | None:
        """The body of the next attempt, whose events come from now on; None: it cannot be asked
        again. raw: the body that the client sent; ms: how long the attempt took that was cut."""
        said = said_before(self._looping, self.texts, self.tokens)
        body = replayed(
            raw, self._endpoint, said, attempt=self.attempt + 1,
            more={k: v for k, v in self.plan.added.items() if k != "reasoning_control"},
        )  # fmt: skip
        if body is None:
            self.findings[-1] = msgspec.structs.replace(self.findings[-1], step=Step.STOP)
            return None
        self.tally.cut(self.texts.tokens, ms)
        self.attempt += 1
        self._splice.again()
        self._join(self._looping[0])
        self.texts.again(*self._looping)
        self.wants, self._is_deaf = None, False
        return body

    def _join(self, text: Text) -> None:
        """A model that was interrupted begins a sentence anew."""
        seen = text.seen()
        if text.channel is Channel.CONTENT and seen and not (seen.endswith(b"\n") or self._seam):
            self._seam = self._splice.said("\n\n")

    def stopped(self, why: str = "it repeated itself") -> bytes:
        """The rest of the client's stream: it ends here, and says so."""
        self.wants, self.is_over, self._is_deaf = Step.STOP, True, True
        self._hold.drop()
        self._forget_shape()
        seam, self._seam = self._seam, b""
        words = ("" if seam else "\n\n") + f"[llmctl: the answer was stopped: {why}]"
        return seam + self._splice.stopped(words, self.texts.tokens)
