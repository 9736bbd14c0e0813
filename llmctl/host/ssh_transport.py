"""paramiko's Transport, without waits that the protocol does not ask for, and with a keepalive that
finds out something. Whatever of paramiko's insides llmctl relies on stands here."""

import threading
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import cMSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST


class _Authenticator(AuthHandler):
    """Asks for the service and to be let in at once: the answer to the former is always yes."""

    def _request_auth(self) -> None:
        super()._request_auth()  # type: ignore[misc]  # not in the stubs
        accepted = paramiko.Message()
        accepted.add_string("ssh-userauth")
        accepted.rewind()
        super()._parse_service_accept(accepted)  # type: ignore[misc]  # builds and sends it

    def _parse_service_accept(self, message: paramiko.Message) -> None:
        """Comes later, and says nothing new."""


class Transport(paramiko.Transport):
    """A client's side of a connection."""

    def log_in(self, user: str, key: paramiko.PKey | None) -> None:
        """Offer a key, or nothing. AuthenticationException: that was not enough."""
        answered = threading.Event()
        handler: Any = _Authenticator(self)
        self.auth_handler = handler
        if key is None:
            handler.auth_none(user, answered)
        else:
            handler.auth_publickey(user, key, answered)
        handler.wait_for_response(answered)

    def ping(self) -> None:
        """Ask for a sign of life: any answer is one, also that the question is not understood.

        paramiko's own keepalive wants no answer, and so never misses one.
        """
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)  # noqa: FBT003  # it is to be answered
        self._send(message)

    def execute(self, channel: paramiko.Channel, line: str) -> None:
        """Run a line in a session's channel; as its exec_command, which waits for a go-ahead."""
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exec")
        message.add_boolean(False)  # noqa: FBT003  # no answer is wanted: there is output, or none
        message.add_string(line)
        self._send(message)

    def _send(self, message: paramiko.Message) -> None:
        send: Any = getattr(self, "_send_user_message")  # noqa: B009  # not in the stubs
        send(message)
