"""The failures llmctl raises on purpose. Anything else that escapes is a bug.

Each class exists because a script needs its exit status or a caller catches it differently.
"""

from collections.abc import Sequence


class LlmctlError(Exception):
    """What is true, in a full sentence, and what to type next."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LlmctlError):
    """A command that cannot mean anything: an unknown name, options that exclude each other."""

    exit_status = 2


class ProfileError(LlmctlError):
    """A profile, the configuration, or a unit file of the same name that is not ours."""

    exit_status = 3

    def __init__(self, problems: str | Sequence[str], *, hint: str | None = None) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class GgufError(ProfileError):
    """A model file that is no GGUF file, or a broken one: what is wrong, at which byte."""


class DraftError(ProfileError):
    """What a profile names as `draft` cannot draft for its model: why, in a clause."""


class DoesNotFitError(LlmctlError):
    """The model does not fit into the memory of the devices."""

    exit_status = 4


class HostError(LlmctlError):
    """The box gave no answer, or an effect on it (a file, a command) did not happen."""

    exit_status = 5


class UnreachableError(HostError):
    """Nobody answers there: the box is off, asleep, on its way up, or out of reach."""


class NoAnswerError(HostError):
    """A command was sent and its outcome is not known: it must not be sent again."""


class LostError(NoAnswerError):
    """The same, since the way to the box is gone: nothing more can be asked of it."""


class SwitchError(LlmctlError):
    """The switch failed; a model of the group runs: the earlier one, or whoever displaced yours.

    `evidence` holds the last lines the server itself wrote.
    """

    exit_status = 6

    def __init__(
        self, message: str, *, hint: str | None = None, evidence: Sequence[str] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.evidence = tuple(evidence)


class DisplacedError(SwitchError):
    """Somebody switched to another model meanwhile; nothing is wrong with this one."""


class NothingRunsError(SwitchError):
    """The switch failed, and no model of the group is ready."""

    exit_status = 7


class TakenDownError(NothingRunsError):
    """The same, since somebody stopped the model while it was being started."""


def sentence(text: str) -> str:
    """A message that others end in a full stop, or not, as a sentence."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
