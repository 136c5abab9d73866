"""How identities are called: the name stands in lists of sources, only its digest in a run."""

import re
from hashlib import sha256

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

CLEARED = "none"  # as the option of a source (options.UNSET)


def name_digest(name: str) -> str:
    """What a run says of the identity that it used: SHA-256 of the name."""
    return sha256(name.encode()).hexdigest()


def check_name(name: str) -> str:
    """Give the name back. Raises ValueError."""
    if name == CLEARED:
        raise ValueError("this word takes a source's identity back, so none can be called so")
    if not NAME.fullmatch(name):
        raise ValueError("no name of an identity: small letters, digits and hyphens, at most 40")
    return name
