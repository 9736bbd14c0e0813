"""The proxy: a second program that owns port 1234 (`python -m llmctl.proxy`).

head, dialect, routing, turns, answer, keys, access, metrics and guard are pure: no sockets, no
clock. client and upstream are the two ends of the wire, relay joins them for one request (again:
the short way of the usual one; course: where it stands; guard_request: what its model is asked;
healing: what the guard has done about its answer), server holds what they share, journal is told
what happens, and keeper is the one module that reaches the engine.
"""
