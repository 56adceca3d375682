"""Commands and options of other programs (llm, aichat, mods, sgpt, git), and those of qa."""

from shlex import join, quote

from qacli.cli.completion import command_table
from qacli.suggestions import similar_name

ASK = 'qa ask "..."'
COMMANDS = {
    "qa": {
        **dict.fromkeys(("history", "log", "logs", "ls"), "qa list"),
        "find": "qa search WORDS",
        "grep": "qa search WORDS",
        **dict.fromkeys(("delete", "remove", "del"), "qa rm ID"),
        "undo": "qa rm last",
        "prompt": ASK,
        "version": "qa --version",
        **dict.fromkeys(("profile", "profiles"), "qa config use PROVIDER, qa --profile NAME ask"),
        **dict.fromkeys(("key", "keys", "auth", "login"), "qa config key set"),
        **dict.fromkeys(("set", "settings", "setup", "init"), "qa config"),
        **dict.fromkeys(("last", "cat", "view", "open", "get"), "qa show last, qa show ID"),
        **dict.fromkeys(("cost", "costs", "usage", "tokens"), "qa stats"),
        **dict.fromkeys(("retry", "again", "regenerate"), "qa ask --again last"),
        "edit": "qa ask --edit-last",
        **dict.fromkeys(("resume", "continue", "reply", "followup"), 'qa ask -c "..."'),
        **dict.fromkeys(("embed", "similar"), "qa list --similar ID"),
        "diff": "qa compare ID ID",
        **dict.fromkeys(("threads", "sessions", "conversations"), "qa list --threads"),
        **dict.fromkeys(("role", "roles", "templates"), "qa template list"),
        **dict.fromkeys(("alias", "aliases"), "qa config set aliases.NAME MODEL"),
        **dict.fromkeys(("fragment", "fragments"), 'qa ask -f FILE "..."'),
        **dict.fromkeys(("schema", "schemas"), 'qa ask --schema SCHEMA "..."'),
        **dict.fromkeys(("rename", "name"), "qa title ID TITLE"),
        "watch": "qa list --watch",
        "man": "qa help",
        **dict.fromkeys(("web", "ui", "server"), "qa serve"),
        "repl": "qa chat",
    },
    "qa config": {
        **dict.fromkeys(("list", "ls", "get"), "qa config"),
        "edit": '"$EDITOR" "$(qa config path)"',
    },
    "qa template": {
        **dict.fromkeys(("add", "create", "new", "save"), "qa template edit NAME"),
        **dict.fromkeys(("delete", "remove"), "qa template rm NAME"),
        "ls": "qa template list",
    },
}
"""By group: words for a command, with the command here."""

OPTIONS = {
    "--list": "qa list",
    **dict.fromkeys(("--list-models", "--models", "--sync-models"), "qa models"),
    "--serve": "qa serve",
    **dict.fromkeys(("--list-sessions", "--list-chats", "-l"), "qa list --threads"),
    **dict.fromkeys(("--info", "--settings", "--list-settings"), "qa config"),
    **dict.fromkeys(("--role", "-r", "--list-roles"), "qa ask -t TEMPLATE, qa template list"),
    **dict.fromkeys(("--execute", "-e", "--code", "--shell"), 'qa ask -x "..."'),
    **dict.fromkeys(("--repl", "--chat"), "qa chat"),
    "--session": 'qa ask -c "...", qa ask --follow ID "..."',
    **dict.fromkeys(("--show", "--show-last", "-S"), "qa show ID, qa show last"),
    "--show-chat": "qa show ID --thread",
    **dict.fromkeys(("--delete", "-d"), "qa rm ID"),
    "--delete-older-than": "qa prune --older-than AGE",
    "--title": "qa title ID TITLE",
}
"""Options of `qa` itself, with the command here."""

ASK_OPTIONS = {
    **dict.fromkeys(("--cid", "--conversation", "--show-chat"), "--follow ID"),
    **dict.fromkeys(("-C", "--continue-last"), "-c"),
    **dict.fromkeys(("-u", "--usage"), "qa show last"),
    **dict.fromkeys(("-a", "--attachment", "--fragment", "--image"), "-f FILE"),
    **dict.fromkeys(("--repl", "--chat"), "qa chat, -c, --follow ID"),
    **dict.fromkeys(("-e", "--execute", "--code", "--shell", "--xl", "--extract-last"), "-x"),
    "-S": "--no-stream",
    "--save": "qa template edit NAME",
    **dict.fromkeys(("--role", "--prompt"), "-t TEMPLATE, -s TEXT"),
    **dict.fromkeys(("--session", "--save-session"), "-c, --follow ID"),
    "--title": "qa title ID TITLE",
    "--editor": "--edit",
    "--cache": "--reuse",
    **dict.fromkeys(("-n", "--no-log", "--no-cache"), "--no-save"),
    "--no-md": "--raw",
    "--temp": "--temperature NUMBER",
    "--topp": "--top-p NUMBER",
    "--key": "qa config key set",
    "--api": "qa --profile NAME ask",
    **dict.fromkeys(("-T", "--functions"), "--tool NAME"),
    "--schema-multi": "--schema SCHEMA",
}
LIST_OPTIONS = {
    **dict.fromkeys(("-q", "--query"), "--search TEXT"),
    **dict.fromkeys(("-r", "--response"), "qa show last --field answer"),
    **dict.fromkeys(("-c", "--current"), "qa show last --thread"),
    **dict.fromkeys(("--cid", "--conversation"), "--thread ID"),
}
COMMAND_OPTIONS = {"qa ask": ASK_OPTIONS, "qa chat": ASK_OPTIONS, "qa list": LIST_OPTIONS}
"""By command: its options in other programs, with the option or the command here."""


def command_for(group: str, words: list[str]) -> str | None:
    """Return the command that was probably meant by words after a group; None if unknown.

    Args:
        group: `qa`, or `qa config`.
        words: The words, the first of which is no command; at least one.
    """
    if command := COMMANDS.get(group, {}).get(words[0]):
        return command
    if group != "qa":
        return None
    text = " ".join(words)
    is_question = len(words[0].split()) > 1 or text.endswith("?") or len(words) > 2  # noqa: PLR2004
    if is_question or (
        len(words) > 1 and similar_name(words[0], [*command_table()["commands"]]) is None
    ):
        options = any(word.startswith("-") for word in words)
        return f"qa ask {join(words) if options else quote(text)}"
    return None


def command_for_option(option: str, words: list[str]) -> str | None:
    """Return the command that was probably meant by an option of `qa` itself; None if unknown."""
    if option in command_table()["commands"]["ask"]["options"]:
        return f"qa ask {join(words)}"
    return OPTIONS.get(option)


def option_for(path: str, option: str) -> str | None:
    """Return what a command has for an option of another program; None if unknown.

    Args:
        path: The command, such as `qa ask`.
        option: The option, which the command does not have.
    """
    use = COMMAND_OPTIONS.get(path, {}).get(option)
    options = command_table()["commands"].get(path.partition(" ")[2], {}).get("options", {})
    is_here = use is None or not use.startswith("-") or use.split()[0].rstrip(",") in options
    return use if is_here else None


def command_for_extra(path: str, words: list[str], extra: list[str]) -> str | None:
    """Return the command that was probably meant by too many words; None if unknown.

    Args:
        path: The command, such as `qa list`.
        words: The words after it.
        extra: Those of them that it does not take.
    """
    number = len(words) - len(extra)
    match path:
        case "qa list":
            is_id = len(extra) == 1 and extra[0].isdecimal()
            return f"qa show {extra[0]}" if is_id else f"qa search {join(extra)}"
        case "qa show" if not any(word.startswith("--") for word in words):
            return f"qa compare {join(words)}"
        case "qa title" if number > 1:
            return f"qa title {join(words[: number - 1])} {quote(' '.join(words[number - 1 :]))}"
        case "qa stats":
            return f"qa stats --by {quote(extra[0])}"
        case "qa chat":
            return f"qa ask {quote(' '.join(extra))}"
    return None
