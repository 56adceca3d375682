"""The settings of a command: as `qacli.config` loads them, with a notice on what is ignored."""

from qacli import config
from qacli.cli.terminal import Terminal
from qacli.config import Settings
from qacli.env_file import Trust


def load_settings(terminal: Terminal | None = None) -> Settings:
    """Load the settings; print one line on stderr where a `.env` is ignored.

    A command loads its settings once, so that the line is printed once. It is not printed with
    --quiet, nor for a file that `qa config untrust` has refused as it is.

    Args:
        terminal: The streams of the command; those of the process where None.

    Raises:
        NotConfigured: As `qacli.config.load_settings`.
    """
    settings = config.load_settings()
    ignored = settings.ignored_env_file
    if ignored is not None and ignored.trust is not Trust.REFUSED:
        (terminal or Terminal.of_process()).warn(ignored.notice)
    return settings
