"""paramiko's Transport, without waits that the protocol does not ask for, and with a keepalive that
finds out something. Whatever of paramiko's insides llmctl relies on stands here."""

import threading
import time
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import cMSG_CHANNEL_OPEN, cMSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST

_WINDOW_BYTES, _PACKET_BYTES = 1 << 24, 1 << 15
"""A window that 8 MiB on either stream fit into, so that far away nobody waits for it to grow."""
REFUSED_S = 5.0
"""How long a session is asked for again that the server refuses."""
_AGAIN_S = 0.02
_TICK_S = 0.1
"""How often a dead connection is noticed while a channel is waited for."""


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
    """A client's side of a connection. said_goodbye: the server ended it in good order."""

    said_goodbye = False
    _asked: tuple[paramiko.Channel, threading.Event] | None = None

    def log_in(self, user: str, key: paramiko.PKey | None, *, ahead: bool) -> None:
        """Offer a key, or nothing. AuthenticationException: that was not enough. TimeoutError:
        nobody has answered in time.

        ahead: ask for a session in the same breath. OpenSSH keeps that until the user is let in,
        and answers "not implemented" where not; other servers hang up.
        """
        answered = threading.Event()
        handler: Any = _Authenticator(self)
        self.auth_handler = handler
        if key is None:
            handler.auth_none(user, answered)
        else:
            handler.auth_publickey(user, key, answered)
        if ahead and "OpenSSH" in self.remote_version:
            self.ask_for_session()
        try:
            handler.wait_for_response(answered)
        except paramiko.SSHException:
            self._asked = None
            if self.is_active() and not answered.is_set():  # paramiko calls that refused, too
                raise TimeoutError(f"no answer to a key within {self.auth_timeout:g} s") from None
            raise

    # Sessions: one is always asked for ahead, so that the next command need not wait for it.

    def ask_for_session(self) -> None:
        """Ask for a session, if none is asked for yet; `session` takes it."""
        if self._asked is not None:
            return
        inner: Any = self
        with inner.lock:
            number = inner._next_channel()
            channel: Any = paramiko.Channel(number)
            opened = threading.Event()
            inner._channels.put(number, channel)
            inner.channel_events[number] = opened
            inner.channels_seen[number] = True
            channel._set_transport(self)
            channel._set_window(_WINDOW_BYTES, _PACKET_BYTES)
            self._asked = channel, opened
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string("session")
        for word in (number, _WINDOW_BYTES, _PACKET_BYTES):
            message.add_int(word)
        self._send(message)

    def session(self, *, timeout: float) -> paramiko.Channel:
        """The session that was asked for, or else a new one. SSHException: there is none.

        A server may allow few at a time (MaxSessions): it refuses the one ahead, and each further
        one until an earlier has ended, which takes it a moment.
        """
        deadline = time.monotonic() + timeout
        refused_until = time.monotonic() + REFUSED_S
        while True:
            self.ask_for_session()
            assert self._asked is not None  # noqa: S101  # just asked for
            (taken, opened), self._asked = self._asked, None
            while not opened.wait(_TICK_S):
                if not self.is_active() or time.monotonic() > deadline:
                    raise paramiko.SSHException("no session was opened")
            inner: Any = self
            if not self.is_active():
                raise paramiko.SSHException("no session was opened")
            if inner._channels.get(taken.chanid) is not None:
                return taken
            if time.monotonic() > refused_until:
                raise paramiko.SSHException("no session was opened")
            time.sleep(_AGAIN_S)

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

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        self.said_goodbye = True
        super()._parse_disconnect(message)  # type: ignore[misc]  # not in the stubs

    def _send(self, message: paramiko.Message) -> None:
        send: Any = getattr(self, "_send_user_message")  # noqa: B009  # not in the stubs
        send(message)
