"""The key that models' servers want: without it their loopback ports would be ways around."""

from llmctl.host.base import Host


def make_server_key(host: Host, path: str) -> None:
    """Make it once, at random: a file for its owner alone. What is there stays as it is."""
    if host.stat(path) is None:
        import secrets  # once in the life of a box

        host.write(path, f"{secrets.token_hex(32)}\n".encode(), mode=0o600)
