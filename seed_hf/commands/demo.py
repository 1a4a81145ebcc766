"""`seed-hf demo`: what `python -m seed_hf.demo` does."""

from ..demo.flags import demo_flags
from .parsing import with_options


EXAMPLES = """examples:
  seed-hf demo
  seed-hf demo --image cat.jpg --prompt "a red apple" --output-dir seen
"""


@with_options(demo_flags)
def run(**values):
    """Runs the demo, which prints what it finds."""
    from ..demo.run import run_demo  # inside `run`, so that `--help` does not wait for torch

    run_demo(demo_flags(**values))


__all__ = ["run"]
