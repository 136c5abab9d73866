"""What the value of a setting must be besides of its type and within its bounds."""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from settings.errors import SettingError
from settings.exits import BadExit, read_exit, read_exits
from settings.variables import variable

_MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LISTEN = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")


def check(values: Mapping[str, Any]) -> None:
    """Raise SettingError for the first value that cannot be used, or that lacks another one."""
    for text in values["allow_networks"]:
        try:
            ip_network(text, strict=False)
        except ValueError as error:
            raise SettingError(variable("allow_networks"), str(error), "write networks as 10.0.0.0/8") from error
    if values["log_level"] not in ("debug", "info", "warning", "error"):
        raise SettingError(
            variable("log_level"), f"{values['log_level']!r} is no level", "debug, info, warning or error"
        )
    if not _MACHINE.fullmatch(values["machine"]):
        raise SettingError(
            variable("machine"), f"{values['machine']!r} is no name", "letters, digits, dots, hyphens: at most 63"
        )
    _check_watching(values)
    if values["one_disk"] not in ("link", "copy"):
        raise SettingError(variable("one_disk"), f"{values['one_disk']!r} is neither", "link or copy")
    if values["robots"] != "obey" and not values["robots"].partition("ignore:")[2].strip():
        raise SettingError(variable("robots"), f"{values['robots']!r} has no reason", "obey, or ignore:<reason>")
    _check_ways_out(values)
    if values["s3_endpoint"] and not (values["s3_access_key"] and values["s3_secret_key"]):
        raise SettingError(
            variable("s3_access_key"),
            "is missing",
            "OSINT_S3_ENDPOINT needs OSINT_S3_ACCESS_KEY and OSINT_S3_SECRET_KEY",
        )


def _check_ways_out(values: Mapping[str, Any]) -> None:
    """Check exits, proxy and the URL that tells an address; what is said holds nothing of their secrets."""
    key = "exits"
    try:
        exits = read_exits(values["exits"])
        key = "proxy"
        if (proxy := values["proxy"]) and proxy not in exits:
            read_exit(proxy)
    except BadExit as error:
        advice = "name=http://user:password@host:port or name=socks5://...; see docs/egress.md"
        raise SettingError(variable(key), str(error), advice) from error
    if values["address_url"] and not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", values["address_url"]):
        raise SettingError(variable("address_url"), "is no http or https address", "https://host/path")


def _check_watching(values: Mapping[str, Any]) -> None:
    if values["log_format"] not in ("auto", "json", "text"):
        raise SettingError(variable("log_format"), f"{values['log_format']!r} is no format", "json, text or auto")
    listen = values["metrics_listen"]
    if listen != "off" and not ((found := _LISTEN.fullmatch(listen)) and int(found[1]) < 65536):
        raise SettingError(variable("metrics_listen"), f"{listen!r} is no address", "write 127.0.0.1:9464, or off")
    if not all("://" in one for one in values["alerts"][:1]):  # later parts may be addresses of the first one's list
        raise SettingError(variable("alerts"), "is no apprise URL", "write it as docs/watching.md shows")
