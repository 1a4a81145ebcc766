"""One line instead of a traceback where a package is not installed. Scripts import this before what may be missing."""

import sys

from .missing_packages import describe_missing


def _print_one_line(error_type, error, traceback):
    line = describe_missing(error) if isinstance(error, ImportError) else None
    if line is None:
        _hook_before(error_type, error, traceback)
    else:
        sys.stderr.write(f"{sys.argv[0]}: {line}\n")


_hook_before, sys.excepthook = sys.excepthook, _print_one_line
