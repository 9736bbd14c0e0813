"""The proxy: a second program that owns port 1234 (`python -m llmctl.proxy`).

head, dialect, routing, turns, answer, keys, access, metrics and guard are pure: no sockets, no
clock. client (line: what is done with its transport) and upstream are the two ends of the wire
(wire: a transport for both, which loop wakes), relay joins them for one request (course: where it
stands; guard_request: what its model is asked; healing: what the guard has done about its answer),
server holds what they share, journal is told what happens, and keeper is the one module that
reaches the engine.

What is usual goes short ways, each of which comes to the same as the long one: again (the request;
short: what the relay does of it), foretold (how its answer begins), lane (its events) and
guard/shape (what the guard reads of them).
"""
