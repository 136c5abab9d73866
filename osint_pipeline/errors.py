"""Each kind of failure with its exit code, one sentence of what is wrong and one of advice."""

from enum import IntEnum

from storage.errors import (
    DamagedWarc,
    DatabaseUnavailable,
    DumpImpossible,
    SchemaTooNew,
    SpoolFull,
    SpoolHeld,
    SpoolNotOurs,
    StorageError,
    StoreDiffers,
    StoreUnavailable,
)


class Exit(IntEnum):
    """Exit codes of `osint`; documented in README.md, held by a test."""

    COMPLETE = 0  # all that was wanted was captured, all that was asked was found or verified
    FAILED = 1  # nothing was captured, or a check failed
    BAD_INPUT = 2  # what was asked for cannot be done as it was written
    PARTIAL = 3  # some of it was captured, or some claims could not be checked
    REFUSED = 4  # the source answered with nothing but refusals
    STORE = 5  # the object store cannot be reached or refuses us; the spool keeps everything
    DATABASE = 6  # the catalogue cannot be reached or used
    DISK = 7  # there is no space left for the spool
    INTERRUPTED = 130  # stopped by Ctrl-C or SIGTERM


class UserError(Exception):
    """Something a person can put right: what is wrong, and what to do."""

    def __init__(self, what: str, advice: str, exit_code: Exit = Exit.BAD_INPUT) -> None:
        super().__init__(what)
        self.what, self.advice, self.exit_code = what, advice, exit_code


class ExitUnusable(UserError):
    """A source's way out cannot be used; nothing was asked for in another way. `label` names the exit."""

    def __init__(self, label: str, why: str) -> None:
        advice = "`osint exits` checks each; OSINT_EXITS names them"
        super().__init__(f"exit {label} cannot be used: {why}", advice, Exit.FAILED)
        self.label, self.why = label, why


def explain(error: StorageError) -> UserError:
    """Turn an error of the leaf below into one sentence, one piece of advice and an exit code."""
    if isinstance(error, StoreUnavailable):
        return UserError(str(error), "captures wait in the spool; run `osint upload` when it is back", Exit.STORE)
    if isinstance(error, StoreDiffers):
        return UserError(str(error), "nothing local was deleted; run `osint store doctor`", Exit.STORE)
    if isinstance(error, SchemaTooNew):
        return UserError(str(error), "use the newer program that wrote it", Exit.DATABASE)
    if isinstance(error, DatabaseUnavailable):
        return UserError(str(error), "look at OSINT_DATABASE_URL, or at the log in the data folder", Exit.DATABASE)
    if isinstance(error, DumpImpossible):
        return UserError(str(error), error.advice, Exit.FAILED)
    if isinstance(error, SpoolFull):
        return UserError(str(error), "free some space, then run `osint recover`", Exit.DISK)
    if isinstance(error, SpoolHeld):
        return UserError(str(error), "see `osint spool`; `osint upload` brings what waits to the store", Exit.DISK)
    if isinstance(error, SpoolNotOurs):
        return UserError(str(error), error.advice)
    if isinstance(error, DamagedWarc):
        return UserError(str(error), "run `osint verify` on it", Exit.FAILED)
    return UserError(str(error), "run `osint recover`", Exit.FAILED)


_ARCHIVED = {
    SpoolFull: "no space left for the spool",
    SpoolHeld: "too much waits in the spool",
    DatabaseUnavailable: "the catalogue could not be reached or used",
    StoreUnavailable: "the object store could not be reached or used",
    StoreDiffers: "the object store holds other bytes than ours",
    DamagedWarc: "a WARC is damaged",
}


def for_the_archive(error: BaseException) -> str:
    """Say what went wrong without a path, an address or a name of ours: it is written into the WARC."""
    if isinstance(error, ExitUnusable):
        return str(error)  # made of an exit's name and a sentence of ours
    for kind, sentence in _ARCHIVED.items():
        if isinstance(error, kind):
            return sentence
    return f"a fault of the machine or program: {type(error).__name__}"
