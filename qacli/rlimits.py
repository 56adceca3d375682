"""The limit of open files and connections of the process."""

import resource


def raise_nofile_limit(count: int) -> int:
    """Raise the soft limit of open files to `count` if the hard limit allows it.

    Returns the number of files that can be open: `count`, or the hard limit if that is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return count
    granted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    return granted
