"""Which dialect is spliced how."""

from llmctl.proxy.guard.plan import Plan
from llmctl.proxy.guard.splice import Splice
from llmctl.proxy.guard.splice_messages import MessagesSplice
from llmctl.proxy.guard.splice_openai import OpenAISplice
from llmctl.proxy.guard.splice_responses import ResponsesSplice
from llmctl.proxy.guard.tally import Tally
from llmctl.proxy.guard.texts import Texts


def splice_for(plan: Plan, tally: Tally, texts: Texts) -> Splice:
    """Of one answer."""
    if plan.endpoint == "messages":
        return MessagesSplice(tally)
    if plan.endpoint == "responses":
        return ResponsesSplice(tally, texts.seen, model=plan.model)
    return OpenAISplice(tally, wants_usage=plan.wants_usage, hides_progress=plan.hides_progress)
