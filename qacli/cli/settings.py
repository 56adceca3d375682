"""Load the settings of a command, and print a notice of an ignored `.env` file."""

from qacli.cli.console import Console
from qacli.config import loader
from qacli.config.env_file import Trust
from qacli.config.settings import Settings


def load_settings(console: Console) -> Settings:
    """Load the settings; print a line on stderr for an ignored `.env` and a misspelled variable.

    A command loads its settings once, so that a line is printed once. None is printed with
    --quiet, nor for a file that `qa config untrust` has refused as it is.

    Args:
        console: The console of the command.

    Raises:
        NotConfigured: See `qacli.config.loader.load_settings`.
    """
    settings = loader.load_settings()
    ignored = settings.ignored_env_file
    if ignored is not None and ignored.trust is not Trust.REFUSED:
        console.warning(ignored.notice)
    for sentence in settings.misspelled:
        console.warning(sentence)
    return settings
