"""How many files, connections among them, a process may have open at once."""

import resource


def raise_nofile_limit(wanted: int) -> int:
    """Ask the system for so many; gives how many of them there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    return granted
