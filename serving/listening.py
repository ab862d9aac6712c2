"""A socket to listen on, or a sentence that names the settings to change."""

import socket

from echoplane.errors import ConfigError


def listen(what: str, host: str, port: int, prefix: str) -> socket.socket:
    """Returns a socket that listens for `what`, whose settings are `prefix` with HOST and PORT.

    Raises ConfigError, which names these settings, if the address can't be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"the {what} can't listen at {host}:{port} ({error.strerror}); set {prefix}PORT to a free port, or "
            f"{prefix}HOST to an address of this machine."
        ) from None
