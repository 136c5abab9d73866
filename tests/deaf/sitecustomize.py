"""In the path of a child: every lookup of a name fails and is written to the file LOOKUPS; addresses are let through."""

import os
import socket

_real = socket.getaddrinfo


def _asked(host):
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    with open(os.environ["LOOKUPS"], "a") as file:  # noqa: PTH123 - pathlib is not loaded yet
        file.write(text + "\n")
    raise socket.gaierror(socket.EAI_NONAME, "no name is looked up here")


def _getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    if host in (None, "", b"", "localhost", b"localhost"):
        return _real(host, port, family, type, proto, flags)
    try:
        return _real(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        return _asked(host)


socket.getaddrinfo = _getaddrinfo
socket.gethostbyname = lambda host: _getaddrinfo(host, 0, socket.AF_INET)[0][4][0]
socket.gethostbyname_ex = _asked
