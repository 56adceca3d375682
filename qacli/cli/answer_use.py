"""The options that use an answer: print its code alone, copy it, write it to a file."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.options import with_options_of
from qacli.errors import InvalidRequest, NotFound
from qacli.model_options import OPTION_NAMES, flag_of

if TYPE_CHECKING:
    from qacli.cli.answer_display import AnswerDisplay
    from qacli.cli.console import Console
    from qacli.markdown_tokens import CodeBlock


@dataclass(frozen=True, slots=True)
class AnswerUse:
    """The use of an answer, in addition to reading it.

    Attributes:
        extract: Print only code: the last fenced block, or with `every` all of them.
        language: Only blocks in this language, in lower case; None for any.
        copy: Put the answer, or the extracted code, on the clipboard.
        output: Write it to this file, and not to stdout.
    """

    extract: bool = False
    every: bool = False
    language: str | None = None
    copy: bool = False
    output: Path | None = None

    @property
    def replaces_output(self) -> bool:
        """True if stdout does not get the answer as it is."""
        return self.extract or self.output is not None

    def check_output(self) -> None:
        """Check the file before the question is asked, so that no paid answer is lost.

        Raises:
            InvalidRequest: The file cannot be written, or its name is that of a model's option:
                `-o temperature 0.5` sets the temperature in llm.
        """
        if self.output is None:
            return
        name = str(self.output)
        if name in OPTION_NAMES and not self.output.exists():
            raise InvalidRequest(
                f"-o writes the answer to a file, and {name} is an option of the model.",
                f"Use: {flag_of(name)} VALUE; or for a file: -o {name}.txt",
            )
        directory = self.output.absolute().parent
        if self.output.is_dir():
            reason = "it is a directory"
        elif not directory.is_dir():
            reason = f"there is no directory {directory}"
        elif not os.access(self.output if self.output.exists() else directory, os.W_OK):
            reason = "permission denied"
        else:
            return
        raise _unwritable(self.output, reason)

    def apply(
        self, answer: str, console: "Console", *, record_id: int | None, document: str | None = None
    ) -> None:
        """Print, copy and write a complete answer as the options say.

        Args:
            answer: The text of the answer.
            console: Gets the text if there is no file.
            record_id: The record of the answer, for an error.
            document: The JSON that `--json` prints instead of the answer.

        Raises:
            NotFound: No block of code is in the answer.
            NotConfigured: There is no clipboard.
            InvalidRequest: The file cannot be written.
        """
        text, to_copy = answer, answer
        if self.extract:
            blocks = self._blocks(answer, record_id)
            text = to_copy = "\n".join(block.code for block in blocks)
            if document is not None:
                document = _blocks_as_json(blocks, every=self.every)
        if document is not None:
            text = document
        if not text.endswith("\n"):
            text += "\n"
        if self.output is not None:
            self._write(self.output, text, console)
        elif self.extract:
            console.write(console.json_text(text) if document is not None else text)
        if self.copy:
            from qacli.cli.clipboard import copy_text

            # A shell runs a pasted line at once if it has a line end.
            copy_text(to_copy.removesuffix("\n"), console)
            console.info(f"Copied: {'the code' if self.extract else 'the answer'}.")

    def _blocks(self, answer: str, record_id: int | None) -> "list[CodeBlock]":
        from qacli.markdown_tokens import code_blocks

        blocks = [block for block in code_blocks(answer) if self.language in {None, block.language}]
        if not blocks:
            kind = f"{self.language} code" if self.language else "code"
            command = "" if record_id is None else f"The whole answer: qa show {record_id}"
            raise NotFound(f"The answer has no fenced block of {kind}.", command)
        return blocks if self.every else blocks[-1:]

    @staticmethod
    def _write(path: Path, text: str, console: "Console") -> None:
        try:
            path.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise _unwritable(path, error.strerror or str(error)) from None
        console.info(f"Written to {path}.")


def _unwritable(path: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{path} cannot be written: {reason}.", "Name another file.")


def _blocks_as_json(blocks: "list[CodeBlock]", *, every: bool) -> str:
    import json
    from dataclasses import asdict

    values = [asdict(block) for block in blocks]
    return json.dumps(values if every else values[0], ensure_ascii=False)


def use_answer(  # noqa: PLR0913 - an answer and its record, by name
    use: AnswerUse,
    answer: str | None,
    display: "AnswerDisplay",
    record: dict[str, Any],
    record_id: int | None,
    *,
    reused: bool,
) -> None:
    """Print, copy and write the answer of a record; see `AnswerUse.apply`.

    Args:
        use: The use of the answer.
        answer: The answer, or None if the record has no answer.
        display: The options for showing it.
        record: The record as a dict.
        record_id: The id of the record, if there is one.
        reused: The answer was saved earlier.
    """
    text = answer or ""
    if display.as_data and not use.extract:
        from qacli.json_schema import extract_json

        text = extract_json(text)
    document = None
    if display.as_json:
        document = json.dumps(display.document(record, reused=reused), ensure_ascii=False)
    use.apply(text, display.console, record_id=record_id, document=document)


def use_from_options(
    *,
    extract: Annotated[
        bool,
        typer.Option("--extract", "-x", help="Print only the last fenced block of code."),
    ] = False,
    extract_all: Annotated[
        bool, typer.Option("--extract-all", help="Print only the code, all of it.")
    ] = False,
    extract_lang: Annotated[
        str | None,
        typer.Option(
            metavar="LANG", help="Print only the last block in this language, such as python."
        ),
    ] = None,
    copy: Annotated[
        bool,
        typer.Option(
            "--copy", help="Put the answer, or the code, on the clipboard; also over ssh."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the answer, or the code, to this file."
        ),
    ] = None,
) -> AnswerUse:
    """Return the use that the options set."""
    return AnswerUse(
        extract=extract or extract_all or extract_lang is not None,
        every=extract_all,
        language=None if extract_lang is None else extract_lang.lower(),
        copy=copy,
        output=output,
    )


with_use_options = with_options_of(use_from_options, "use")
"""Add the options of `use_from_options` to a command, which gets them as its parameter `use`."""
