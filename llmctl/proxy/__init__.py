"""The proxy: a second program that owns port 1234 (`python -m llmctl.proxy`).

head, dialect, routing, turns, answer, keys, access and metrics are pure: no sockets, no clock.
client and upstream are the two ends of the wire, relay joins them for one request (again is the
short way of the usual one, course is where it stands), guard_request looks at what a model is
asked, server holds what they share, journal is told what happens, and keeper is the one module
that reaches the engine.
"""
