"""`osint keys`."""

from typing import IO

import click

from osint_pipeline.cli.common import as_json, print_json, workspace
from osint_pipeline.errors import UserError
from osint_pipeline.keys import NAME, Signer, lock


@click.group(help="Look at the archive's signing key, print it for the safe, put it back.")
def keys() -> None:
    """Hold the commands about keys."""


@keys.command(help="Show the public key, and how the private one is kept.")
@as_json
def show(json_: bool) -> None:
    with workspace() as opened:
        passphrase = opened.service.key_passphrase
        signer = Signer.open(opened.folder / "keys", passphrase)
        path = opened.folder / "keys" / NAME
    if json_:
        print_json([{"public_key": signer.public_hex, "path": str(path), "encrypted": bool(passphrase)}])
    else:
        how = (
            "encrypted with OSINT_KEY_PASSPHRASE" if passphrase else "not encrypted: its folder is private, that is all"
        )
        click.echo(f"public key   {signer.public_hex}\nprivate key  {path} ({how})")


@keys.command(help="Write the key as a page to be printed and kept in a safe.")
@click.option(
    "--out", type=click.File("w", encoding="ascii", lazy=True), default="-", help="File; default: standard output."
)
def sheet(out: IO[str]) -> None:
    with workspace() as opened:
        out.write(Signer.open(opened.folder / "keys", opened.service.key_passphrase).sheet())


@keys.command(help="Put a key back that was typed from its sheet; - reads standard input.")
@click.argument("file", type=click.File(encoding="utf-8"))
def restore(file: IO[str]) -> None:
    with workspace() as opened:
        signer = Signer.restore(opened.folder / "keys", file.read(), opened.service.key_passphrase)
    click.echo(f"restored; compare the public key with the sheet: {signer.public_hex}")


@keys.command("lock", help="Encrypt the private key with OSINT_KEY_PASSPHRASE.")
def lock_() -> None:
    with workspace() as opened:
        if not opened.service.key_passphrase:
            raise UserError("no passphrase is set", "set OSINT_KEY_PASSPHRASE, or OSINT_KEY_PASSPHRASE_FILE")
        lock(opened.folder / "keys", opened.service.key_passphrase)
    click.echo("encrypted; without the passphrase or the printed sheet it is lost")


@keys.command(help="Print at which address a run came out, if it was known then and sealed for this key.")
@click.argument("run")
@as_json
def unseal(run: str, json_: bool) -> None:
    from osint_pipeline.sealing import NotOurs
    from osint_pipeline.way import unsealed

    with workspace() as opened:
        try:
            told = unsealed(opened, run)
        except NotOurs as error:
            advice = "put the key of the machine that made the run back from its sheet: osint keys restore"
            raise UserError(str(error), advice) from error
    if json_:
        print_json([told])
    else:
        click.echo(told["address"])
