"""The command line `osint`. Each command is imported only when it is called: `osint --help` stays fast."""

import os
import sys
from importlib import import_module

import click

COMMANDS = {
    "crawl": "osint_pipeline.cli.crawl",
    "source": "osint_pipeline.cli.source_views",
    "words": "osint_pipeline.cli.words",
    "demo": "osint_pipeline.cli.demo",
    "runs": "osint_pipeline.cli.reading",
    "find": "osint_pipeline.cli.reading",
    "show": "osint_pipeline.cli.reading",
    "pull": "osint_pipeline.cli.reading",
    "shot": "osint_pipeline.cli.replaying",
    "replay": "osint_pipeline.cli.replaying",
    "similar": "osint_pipeline.cli.reading",
    "verify": "osint_pipeline.cli.keeping",
    "upload": "osint_pipeline.cli.stores",
    "recover": "osint_pipeline.cli.keeping",
    "store": "osint_pipeline.cli.stores",
    "rebuild": "osint_pipeline.cli.rebuilding",
    "reparse": "osint_pipeline.cli.rebuilding",
    "spool": "osint_pipeline.cli.spool",
    "status": "osint_pipeline.cli.status",
    "alerts": "osint_pipeline.cli.watching",
    "metrics": "osint_pipeline.cli.watching",
    "keys": "osint_pipeline.cli.keys",
    "identity": "osint_pipeline.cli.identity",
    "worker": "osint_pipeline.cli.worker",
    "exits": "osint_pipeline.cli.exits",
    "machine": "osint_pipeline.cli.machine",
    "backup": "osint_pipeline.cli.backup",
    "up": "osint_pipeline.cli.servers",
    "down": "osint_pipeline.cli.servers",
    "config": "osint_pipeline.cli.servers",
}
ABOUT = {
    "crawl": "Capture pages, channels, outlets or videos.",
    "source": "Say what is watched, and how.",
    "words": "Keep lists of words to look for.",
    "demo": "Run the main job on the bundled sample sites.",
    "runs": "List runs, or show one.",
    "find": "Find posts, articles, pages and media.",
    "show": "Show one post, capture or run.",
    "pull": "Write the records of a post, capture or run as one WARC.",
    "shot": "Write the pictures of a captured page.",
    "replay": "Show a captured page from the archive alone, or check that it can be.",
    "similar": "Find pictures that look like a file or a captured one.",
    "verify": "Check what is archived against its digests.",
    "upload": "Bring what waits in the spool to the object store.",
    "recover": "Mend the spool after a crash.",
    "store": "Look at the object store.",
    "rebuild": "Make the catalogue again from the object store alone.",
    "reparse": "Read captured pages again with today's parsers.",
    "spool": "Look at the spool, and delete local copies that may go.",
    "status": "Show how everything stands, and what needs a look.",
    "alerts": "List troubles, and test whether people are told of them.",
    "metrics": "Answer Prometheus, and say whether all is well.",
    "keys": "Look at the archive's signing key, print it, put it back.",
    "identity": "Keep logins that the operator lets a source see, encrypted.",
    "worker": "Visit what is due, until told to stop.",
    "machine": "Look at the machines, and retire one that is gone for good.",
    "backup": "Back up the catalogue's database, check a backup, restore one.",
    "up": "Run everything on this machine: database, store, worker.",
    "exits": "List the proxies that sources may go out through, and check them.",
    "down": "Stop the embedded database and store.",
    "config": "List every setting, its value and where it came from.",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[name]), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, ABOUT[name]) for name in COMMANDS])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="osint-pipeline", message="osint-pipeline %(version)s")
def osint() -> None:
    """Capture what public sources publish, keep it as evidence, give it back fast.

    Exit codes: 0 complete, 1 failed, 2 bad input, 3 partial, 4 refused, 5 object store, 6 database, 7 disk full,
    130 interrupted.
    """


def main() -> None:
    """Run the command line; nothing that a user can cause ends in a traceback."""
    from osint_pipeline.errors import Exit
    from osint_pipeline.stopping import arm, leave

    arm()
    try:
        code = int(osint.main(standalone_mode=False) or 0)
    except (SystemExit, BrokenPipeError):  # no command exits by itself: click and rich do when the reader went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        from osint_pipeline.cli.common import Reader

        sys.exit(Reader.code_if_gone)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        leave(sys.stdout, sys.stderr)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.BAD_INPUT)
    except KeyboardInterrupt:
        leave(sys.stdout, sys.stderr)
    except Exception as error:  # noqa: BLE001 - the outermost edge
        _say(error)
    else:
        if code == Exit.INTERRUPTED:
            leave(sys.stdout, sys.stderr)
        sys.exit(code)


def _say(error: Exception) -> None:
    """Print one sentence and one of advice for what we know; let a fault of our own be seen."""
    from osint_pipeline.errors import UserError, explain
    from settings.errors import SettingError
    from storage.errors import StorageError

    if isinstance(error, StorageError):
        error = explain(error)
    if isinstance(error, SettingError):
        error = UserError(str(error), error.advice)
    if not isinstance(error, UserError):
        raise error
    click.echo(f"osint: {error.what}", err=True)
    click.echo(f"       {error.advice}", err=True)
    sys.exit(error.exit_code)
