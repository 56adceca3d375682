"""`qa config trust` and `untrust`: choose the `.env` files that qa reads."""

from pathlib import Path
from typing import Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.setting_values import one_line, visible_value
from qacli.config.env_file import EnvFile, Trust, absolute, all_records, delete_record, save_record
from qacli.config.loader import env_file_settings
from qacli.config.settings import Settings, setting_field
from qacli.errors import InvalidRequest, NotFound

EPILOG = (
    "\b\nExamples:\n"
    "  qa config trust                    show what .env here sets, and ask\n"
    "  qa config trust ~/project --yes    for scripts: show it and trust it\n"
    "  qa config trust --list\n"
    "  qa config untrust"
)

STATES = {
    Trust.TRUSTED: "trusted",
    Trust.CHANGED: "changed since it was trusted",
    Trust.REFUSED: "not trusted",
    Trust.UNKNOWN: "changed since it was refused",
    Trust.MISSING: "missing",
}

Directory = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="Directory of the .env file (default: this one)."),
]


def register(commands: typer.Typer) -> None:
    """Add the commands to `qa config`."""
    commands.command(epilog=EPILOG)(trust)
    commands.command()(untrust)


def trust(
    context: typer.Context,
    directory: Directory = None,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Trust it without confirmation.")
    ] = False,
    list_all: Annotated[
        bool, typer.Option("--list", help="List trusted and refused files.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the .env file of a directory sets, and trust it.

    Until then it is ignored. A file that changes must be trusted again.
    """
    console = Console.from_context(context)
    if list_all:
        _list(console, as_json=as_json)
        return
    path = _path(directory)
    file = EnvFile.read(path)
    if file is None:
        raise NotFound(f"There is no file {path}.", "Name the directory of a .env file.")
    settings = env_file_settings(file)
    values = _visible_values(settings)
    if not as_json:
        _print(console, file, values)
    for sentence in settings.misspelled:
        console.warning(sentence)
    if not yes:
        _confirm(console, file, as_json=as_json)
    # Trust the bytes that were shown, even if the file has changed since.
    record = save_record(file, trusted=True)
    if as_json:
        console.print_json(
            {
                "path": str(record.path),
                "sha256": record.digest,
                "state": Trust.TRUSTED.value,
                "settings": values,
            }
        )
    else:
        console.info(f"{record.path} is trusted until it changes.")


def untrust(
    context: typer.Context, directory: Directory = None, *, as_json: AsJson = False
) -> None:
    """Ignore the .env file of a directory.

    While the file stays as it is, no notice is printed.
    """
    console = Console.from_context(context)
    path = _path(directory)
    file = EnvFile.read(path)
    location = absolute(path)
    if file is None or file.data is None:
        deleted = delete_record(location)
        if not deleted and file is None:
            raise NotFound(f"There is no file {path}.", "See: qa config trust --list")
    else:
        save_record(file, trusted=False)
    if as_json:
        state = Trust.MISSING if file is None else Trust.REFUSED
        console.print_json({"path": str(location), "state": state.value})
    else:
        console.info(f"{location} is not trusted.")


def _path(directory: Path | None) -> Path:
    """Return the path of the file; a path that ends in `.env` is the file itself."""
    if directory is None:
        return Path(".env")
    return directory if directory.name == ".env" else directory / ".env"


def _visible_values(settings: Settings) -> dict[str, object]:
    """Return the variables that are set, and their values with secrets masked."""
    items = filter(None, map(setting_field, settings.sources))
    return {item.env: visible_value(item, settings) for item in items}


def _print(console: Console, file: EnvFile, values: dict[str, object]) -> None:
    from qacli.cli.text_width import align

    console.print(f"{file.location} sets:")
    for line in align((name, one_line(value)) for name, value in values.items()):
        console.print(f"  {line}")
    if not values:
        console.print("  no setting of qa")


def _confirm(console: Console, file: EnvFile, *, as_json: bool) -> None:
    if as_json or console.stdin is None or not console.stdin.isatty():
        raise InvalidRequest(
            f"{file.path} is not trusted yet: a script must confirm it.", "Add --yes to trust it."
        )
    typer.confirm("Trust this file?", abort=True, err=True)


def _list(console: Console, *, as_json: bool) -> None:
    rows = [(record, record.state(EnvFile.read(record.path))) for record in all_records()]
    if as_json:
        console.print_json(
            [
                {"path": str(record.path), "sha256": record.digest, "state": state.value}
                for record, state in rows
            ]
        )
        return
    for record, state in rows:
        console.print(f"{record.path}  {STATES[state]}")
    if not rows:
        console.info("No .env file is trusted.")
