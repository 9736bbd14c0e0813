"""Words for what we observe of units and servers, and how to read them."""

import enum

import msgspec


class State(enum.Enum):
    """What a person wants to know of a model."""

    READY = "ready"
    LOADING = "loading"
    FAILED = "failed"
    STOPPED = "stopped"


class UnitStatus(msgspec.Struct, frozen=True):
    """A unit as systemd shows it; org.freedesktop.systemd1(5) has each property.

    pid: of the main process, 0 for none; last_pid: also of one that has ended.
    job: the id of a queued or running job, 0 for none. invocation: a new id for each start.
    memory_bytes: of the unit's cgroup, None without accounting. started_us: when its process was
    started, by the clock that stands still while the machine sleeps; 0 for never.
    """

    unit: str
    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    exit_code: int = 0
    exit_status: int = 0
    pid: int = 0
    last_pid: int = 0
    restarts: int = 0
    invocation: str = ""
    job: int = 0
    memory_bytes: int | None = None
    path: str = ""
    needs_reload: bool = False
    enabled: bool = False
    started_us: int = 0

    @property
    def is_running(self) -> bool:
        """The server was executed and nothing is about to change that."""
        return self.active == "active" and self.job == 0

    @property
    def is_up(self) -> bool:
        """Running, starting or waiting to be restarted: it holds, or will take, the devices."""
        return self.active in ("active", "activating", "reloading")

    @property
    def holds_on(self) -> bool:
        """It is up, or on its way down or up: not yet gone."""
        return (self.is_up and not self.has_failed) or self.is_queued

    @property
    def has_failed(self) -> bool:
        """Its last run ended badly, though systemd may be about to try again.

        A failed start under Restart=on-failure shows as `activating (auto-restart)`.
        """
        return self.active == "failed" or self.sub.startswith("auto-restart")

    @property
    def is_queued(self) -> bool:
        """A job of it waits or runs: systemd is at work on it."""
        return self.job != 0 or self.active == "deactivating"


class Health(enum.Enum):
    """What a port answers."""

    SILENT = "silent"  # nobody listens, or no answer in time
    LOADING = "loading"  # 503: HTTP starts before the model loads
    READY = "ready"  # 200
    ODD = "odd"  # an answer that no llama-server gives


class Answer(msgspec.Struct, frozen=True):
    """What a port answers, and under which alias. locked: the alias is behind an API key. ctx:
    tokens that one request may use, None where the server does not say."""

    health: Health
    alias: str | None = None
    locked: bool = False
    ctx: int | None = None

    def is_from(self, profile: str) -> bool:
        """Ready, and under the right name (or nameless behind a key we do not have)."""
        return self.health is Health.READY and (self.alias == profile or self.locked)


def model_state(status: UnitStatus, answer: Answer | None, profile: str) -> State:
    """A unit and what its port answers -> one word."""
    if status.has_failed:
        return State.FAILED
    if status.active == "active":
        if answer is not None and answer.is_from(profile):
            return State.READY
        return State.STOPPED if status.job else State.LOADING  # a job of an active unit ends it
    waiting = status.active == "activating" or (status.job and status.active != "deactivating")
    return State.LOADING if waiting else State.STOPPED
