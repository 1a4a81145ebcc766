"""What commands and scripts import before anything else, so that `--help` and a missing package take no seconds.

With this module loaded, `import seed_hf` waits with torch and transformers until a class is used, and a package that
is not installed is reported in one line instead of a traceback.
"""

import sys


def _print_one_line(error_type, error, traceback):
    from seed_hf.missing_packages import describe_missing  # seed_hf may be what cannot be imported

    line = describe_missing(error) if isinstance(error, ImportError) else None
    if line is None:
        _hook_before(error_type, error, traceback)
    else:
        sys.stderr.write(f"{sys.argv[0]}: {line}\n")


def main() -> int:
    """Runs the command line, `seed-hf`."""
    from seed_hf.commands import main as run_command

    return run_command()


_hook_before, sys.excepthook = sys.excepthook, _print_one_line
