"""Write tool calls as text that a person can read: `name(arguments)`, one a line."""

from dataclasses import dataclass, field

from qacli.provider.response import ChatResponse, calls_of


def format_call(name: str, arguments: str) -> str:
    """Return a call as a line; the usual `{}` of a call without arguments is left out."""
    return f"{name}({'' if arguments.strip() == '{}' else arguments})"


@dataclass(slots=True)
class ToolCallWriter:
    """Adds the tool calls of a response to its text, so that a record shows them.

    They are added while they arrive, because a process may end in the middle of them. At the end
    they are written as whole lines where the response has no other text, and removed if it has.
    """

    _written: list[int] = field(default_factory=list)
    _pieces: list[str] = field(default_factory=list)

    def new_text(self, response: ChatResponse) -> str:
        """Add the newly arrived arguments to the response's text, and return them."""
        if "tool_calls" not in response.details:
            return ""
        pieces: list[str] = []
        for place, (name, arguments) in enumerate(calls_of(response.details)):
            if place == len(self._written):
                pieces.append(f"{self._line_end(response)}{name}(")
                self._written.append(0)
            pieces.append(arguments[self._written[place] :])
            self._written[place] = len(arguments)
        text = "".join(pieces)
        if text:
            self._pieces.append(text)
            response.texts.append(text)
        return text

    def finish(self, response: ChatResponse) -> None:
        """Replace the text of the tool calls by a line for each, or by nothing; see the class."""
        lines = [format_call(*call) for call in calls_of(response.details)]
        if not lines:
            return
        pieces = {id(piece) for piece in self._pieces}
        response.texts[:] = [text for text in response.texts if id(text) not in pieces]
        self._pieces.clear()
        if not response.text.strip():
            response.texts.append("\n".join(lines))

    def _line_end(self, response: ChatResponse) -> str:
        if self._pieces:
            return ")\n"
        return "\n" if response.texts and not response.texts[-1].endswith("\n") else ""
