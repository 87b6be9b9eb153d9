"""Sockets that the service manager has opened for this process: sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping

from bmsd.errors import ConfigError

FIRST = 3


def given_sockets(
    names: Collection[str], environment: Mapping[str, str] = os.environ
) -> dict[str, list[socket.socket]]:
    """Return the listening stream sockets that were given, by their name, which must be one of `names`.

    ConfigError when something else was given. Call it once: the sockets are this process's from then on.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = environment.get("LISTEN_FDS", "")
    if not count.isdecimal():
        raise ConfigError([f"LISTEN_FDS: {count!r}; expected the number of sockets"])
    given: dict[str, list[socket.socket]] = {}
    said = environment.get("LISTEN_FDNAMES", "").split(":")
    lines = []
    for index in range(int(count)):
        name = said[index] if index < len(said) else ""
        wrong = "" if name in names else f"expected FileDescriptorName={' or '.join(names)}"
        wrong = wrong or _wrong(FIRST + index)
        if wrong:
            lines.append(f"socket {name!r} of the service manager (descriptor {FIRST + index}): {wrong}")
            continue
        os.set_inheritable(FIRST + index, False)
        given.setdefault(name, []).append(socket.socket(fileno=FIRST + index))
    if lines:
        raise ConfigError(lines)
    return given


def _wrong(descriptor: int) -> str:
    """Return why nobody can be served at this descriptor; empty when it listens for streams."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as one:
            if one.family not in (socket.AF_INET, socket.AF_INET6):
                return "not of an IP network; expected ListenStream= with a port"
            if one.type != socket.SOCK_STREAM:
                return "not a stream socket; expected ListenStream="
            if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return "does not listen; expected Accept=no"
    except OSError as error:
        return f"not a socket: {error.strerror}"
    return ""
