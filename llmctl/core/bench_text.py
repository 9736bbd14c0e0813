"""Prompts for benchmarks: plain English that no cache has seen and that does not repeat itself.

A prompt of random tokens would tell the same of reading, but nothing of drafts: what is written
after it must be text, as it is in service.
"""

_WHO = (
    "the engineer", "a gardener", "the old captain", "my neighbour", "the night nurse", "a student",
    "the baker", "their teacher", "a visitor", "the mechanic", "one of the pilots", "the librarian",
)  # fmt: skip
_DID = (
    "measured", "repaired", "remembered", "painted", "carried", "described", "moved", "counted",
    "bought", "opened", "explained", "forgot", "borrowed", "photographed", "returned",
)  # fmt: skip
_WHAT = (
    "a wooden bridge", "the letters", "an empty boat", "several instruments", "the last report",
    "a heavy door", "the winter coats", "some drawings", "a small engine", "the northern wall",
    "two clocks", "a basket of apples", "the missing pages", "an orchard",
)  # fmt: skip
_WHERE = (
    "near the harbour", "behind the station", "in the valley", "before sunrise", "after the storm",
    "on the second floor", "beside the river", "during the long summer", "in a quiet street",
    "at the edge of town", "under the lamps",
)  # fmt: skip
_WHY = (
    "because nobody else would", "although it was late", "and told everyone", "without a word",
    "as the plan required", "for the third time", "while the others slept", "to save some money",
    "and then went home", "which surprised us all",
)  # fmt: skip
_PARTS = (_WHO, _DID, _WHAT, _WHERE, _WHY)
TASK = "Now write a long and detailed story in which all of this happens, and what comes after it."


def words(count: int, *, seed: int) -> str:
    """So many words, from a seed; other seeds differ from the first word on."""
    found, state = [f"{seed:x}:"], seed
    while len(found) < count:
        for part in _PARTS:
            # Knuth's MMIX generator; its upper bits are the good ones.
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            found += part[(state >> 33) % len(part)].split()
        found[-1] += "."
    return " ".join(found[:count])


def prompt(count: int, *, seed: int) -> str:
    """A request of about so many words, the task at its end among them."""
    own = len(TASK.split())
    return f"{words(max(1, count - own), seed=seed)}\n\n{TASK}"
