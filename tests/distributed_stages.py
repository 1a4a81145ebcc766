"""Run by test_training_scripts.py in two real processes: training scripts one after the other, as a JSON list says."""

import importlib
import json
import sys
from pathlib import Path


for script, flags in json.loads(Path(sys.argv[1]).read_text()):
    importlib.import_module(script).main(flags)
