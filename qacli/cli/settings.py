"""The settings of a command: as `qacli.config` loads them, with a notice on what is ignored."""

from qacli import config
from qacli.cli.terminal import Terminal
from qacli.config import Settings
from qacli.env_file import Trust


def load_settings(terminal: Terminal | None = None) -> Settings:
    """Load the settings; print a line on stderr for an ignored `.env` and a misspelled variable.

    A command loads its settings once, so that a line is printed once. None is printed with
    --quiet, nor for a file that `qa config untrust` has refused as it is.

    Args:
        terminal: The streams of the command; those of the process where None.

    Raises:
        NotConfigured: As `qacli.config.load_settings`.
    """
    settings = config.load_settings()
    terminal = terminal or Terminal.of_process()
    ignored = settings.ignored_env_file
    if ignored is not None and ignored.trust is not Trust.REFUSED:
        terminal.warn(ignored.notice)
    for sentence in settings.misspelled:
        terminal.warn(sentence)
    return settings
