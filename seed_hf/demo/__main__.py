"""`python -m seed_hf.demo`."""

import sys


import seed_hf_script  # isort: skip  # noqa: F401

from .run import main


sys.exit(main())
