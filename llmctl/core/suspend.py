"""How a box is sent to sleep: what logind and sudo say -> the command, or why there is none."""

from collections.abc import Mapping

CAN_ARGV = (
    "busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager", "CanSuspend",
)  # fmt: skip
"""org.freedesktop.login1(5): yes, no, challenge (a password would be asked for), or na."""
SUSPEND_ARGV = ("systemctl", "suspend")


def parse_can(told: str) -> str:
    """The word in `s "yes"`; empty for any other answer."""
    return told.strip().removeprefix('s "').rstrip('"') if told.startswith('s "') else ""


def sudo_rule(user: str, systemctl: str) -> str:
    """What to type, as an admin, so that a user may suspend the box without a password."""
    rule = f"{user} ALL=(root) NOPASSWD: {systemctl} suspend"
    return f"echo '{rule}' | sudo tee /etc/sudoers.d/llmctl-suspend"


def can_be_woken(cards: Mapping[str, str]) -> bool | None:
    """cards: network cards with what sysfs says of `power/wakeup`; empty where it says nothing.

    None: nobody says. Cards are armed by their driver when Wake-on-LAN is set (device_set_wakeup_
    enable in the kernel's ethtool functions), so `disabled` on all of them is certain.
    """
    told = {one for one in cards.values() if one}
    return "enabled" in told if told else None
