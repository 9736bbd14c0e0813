"""The guard's judgement: what is a loop, within a generation and across the turns of a
conversation. Pure: text in, verdicts out; the proxy acts on them."""
