"""`python -m seed_hf.demo`."""

import sys

import seed_hf.missing_packages_hook  # noqa: F401

from .run import main


sys.exit(main())
