"""Print the clients that ran, with the versions of their packages."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each client: its result, versions and cases."""
    for result in ("passed", "failed"):
        for report in terminalreporter.stats.get(result, []):
            for name, value in report.user_properties:
                if name == "client":
                    program, versions, cases = value
                    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
                    terminalreporter.line(f"{program} {result}: {packages}: {' '.join(cases)}")
