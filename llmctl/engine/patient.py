"""A box that is being looked at, with what more than one check wants to know of it."""

from collections.abc import Mapping
from functools import cached_property

from llmctl.core.config import Config
from llmctl.core.profile import Profile
from llmctl.engine.box import Box
from llmctl.engine.clock import Clock
from llmctl.engine.status import Overview, overview
from llmctl.errors import HostError, ProfileError


class Patient:
    """ours: seconds since 1970 at the machine one types at; None: that is the box itself. slept:
    how long the box has slept in all; None: to be found out."""

    def __init__(
        self, box: Box, *, clock: Clock, ours: float | None = None, slept: float | None = None
    ) -> None:
        self.box, self.clock, self.ours, self.slept = box, clock, ours, slept

    @property
    def user(self) -> str:
        """Whose models they are."""
        return self.box.host.environ().get("USER", "$USER")

    @property
    def models_dir(self) -> str:
        """As config.yaml has it, or the default where that cannot be read."""
        try:
            return self.box.store.config.models_dir
        except ProfileError:
            return Config().models_dir

    @cached_property
    def overview(self) -> Overview:
        """What runs."""
        return overview(self.box)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Those that can be read."""
        return tuple(one.profile for one in self.box.store.profiles.values() if one.profile)

    @property
    def builds(self) -> Mapping[str, tuple[str, ...]]:
        """Builds that profiles use, and which profiles."""
        found: dict[str, tuple[str, ...]] = {}
        for one in self.profiles:
            found[one.binary] = (*found.get(one.binary, ()), one.name)
        return found

    @cached_property
    def unit_environment(self) -> Mapping[str, str]:
        """What units see of the user manager's environment; empty where it does not answer."""
        try:
            return self.box.systemd.environment()
        except HostError:
            return {}
