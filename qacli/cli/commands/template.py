"""`qa template`: the named templates of `qa ask -t`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from qacli.cli.command import App
from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.errors import NotConfigured, QaError

EPILOG = (
    "\b\nExamples:\n"
    "  qa template edit review        create or change a template\n"
    "  qa ask -t review < diff\n"
    '  qa ask -t translate -p language=French "Good morning"\n'
    "  qa template list\n"
    "  qa template rm review"
)

Name = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Name of the template.")]

commands = App(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="template", epilog=EPILOG)


@commands.callback()
def template() -> None:
    """Manage templates of questions."""


@commands.command("list")
def list_templates(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the templates."""
    from shutil import get_terminal_size

    from qacli import prompt_templates
    from qacli.cli.text_width import align, fit_to_width

    console = Console.from_context(context)
    settings = load_settings(console)
    templates: list[dict[str, Any]] = []
    for name in settings.template_names():
        try:
            templates.append(prompt_templates.load_template(settings, name).to_dict())
        except QaError as error:
            templates.append({"name": name, "error": error.what})
    if as_json:
        console.print_json(templates)
        return
    texts = (item.get("error") or item["system"] or item["question"] or "" for item in templates)
    names = (item["name"] for item in templates)
    rows = (
        (name, text.strip().partition("\n")[0]) for name, text in zip(names, texts, strict=True)
    )
    width = get_terminal_size().columns
    for line in align(rows):
        console.print(fit_to_width(line, width).rstrip() if console.is_terminal else line)
    if not templates:
        console.info("There is no template. Create one: qa template edit NAME")


@commands.command()
def show(context: typer.Context, name: Name, *, as_json: AsJson = False) -> None:
    """Show a template."""
    from qacli import prompt_templates

    console = Console.from_context(context)
    settings = load_settings(console)
    if as_json:
        console.print_json(prompt_templates.load_template(settings, name).to_dict())
    else:
        console.print(prompt_templates.read_text(settings, name).removesuffix("\n"))


@commands.command()
def edit(context: typer.Context, name: Name) -> None:
    """Open a template, or a new one, in $VISUAL or $EDITOR."""
    from qacli import prompt_templates
    from qacli.cli.editor import run_editor

    console = Console.from_context(context)
    settings = load_settings(console)
    path = prompt_templates.template_path(settings, name)
    starter = "" if path.exists() else prompt_templates.STARTER.format(name=name)
    if starter:
        _create(path, starter)
    code = run_editor(path, console)
    # The user has left the editor without a change or with an error, or it could not start.
    is_unchanged = bool(starter) and path.exists() and path.read_bytes() == starter.encode()
    if is_unchanged or (starter and code):
        path.unlink(missing_ok=True)
    if code:
        raise NotConfigured(
            f"The editor exited with {code}.", f"Set VISUAL or EDITOR, or edit {path} yourself."
        )
    if is_unchanged or (starter and not path.exists()):
        console.warning(f"The template {name} was not changed, so it is not kept.")
        return
    prompt_templates.load_template(settings, name)


@commands.command()
def rm(context: typer.Context, name: Name) -> None:
    """Remove a template."""
    from qacli import prompt_templates

    console = Console.from_context(context)
    settings = load_settings(console)
    file = prompt_templates.template_path(settings, name)
    if not file.exists():
        # The error lists the templates.
        prompt_templates.read_text(settings, name)
    try:
        file.unlink()
    except OSError as error:
        raise NotConfigured(
            f"The template {file} cannot be removed: {error.strerror}.",
            "Make its directory writable.",
        ) from None
    console.info(f"Removed: the template {name}.")


@commands.command()
def path(context: typer.Context, name: Name) -> None:
    """Print the path of a template's file."""
    from qacli import prompt_templates

    console = Console.from_context(context)
    console.print(str(prompt_templates.template_path(load_settings(console), name)))


def _create(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NotConfigured(
            f"The template {path} cannot be written: {error.strerror}.",
            "Set QA_CONFIG to a file in a directory that can be written.",
        ) from None
