"""The guard of one answer: it reads what a model generates, and ends what repeats itself.

    session = Session(plan, settings)
    session.feed(events)        # what may be sent now
    session.wants               # a step that the relay is to take: Native, Retry or Stop

Everything here is pure: bytes of events in, bytes and steps out; no socket and no clock.
"""
