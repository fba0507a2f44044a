"""The C library's memory allocator on CPUs."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers of mallopt(3)
LARGEST = 1 << 30


def keep_freed_memory() -> bool:
    """Has the process keep the memory it frees for its next allocations, where the C library is glibc.

    By default glibc gives large blocks back to the system at once, so that every training step touches fresh pages, each at
    the cost of a page fault. Results do not change; the process stays as large as it ever was.

    Returns:
        Whether it was possible.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
