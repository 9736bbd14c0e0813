"""Which of the splices an answer needs."""

from llmctl.proxy.guard.plan import Plan
from llmctl.proxy.guard.splice import Splice
from llmctl.proxy.guard.splice_messages import MessagesSplice
from llmctl.proxy.guard.splice_openai import OpenAISplice
from llmctl.proxy.guard.splice_responses import ResponsesSplice
from llmctl.proxy.guard.tally import Tally
from llmctl.proxy.guard.texts import Texts


def splicing(plan: Plan, tally: Tally, texts: Texts) -> Splice:
    """The one of its endpoint."""
    if plan.endpoint == "messages":
        return MessagesSplice(tally)
    if plan.endpoint == "responses":
        return ResponsesSplice(tally, texts.seen, model=plan.model)
    return OpenAISplice(tally, wants_usage=plan.wants_usage, hides_progress=plan.hides_progress)
