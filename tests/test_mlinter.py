"""What the linter of transformers' maintainers finds in the models is what is known, each rule with its reason."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from tiny import ROOT


pytest.importorskip("mlinter", reason="transformers-mlinter comes with the dev extra")
KNOWN = {
    # a layer of transformers' Q-Former, of which BLIP-2 itself names the attention only, so that the rest may be split
    "TRF022": 1,
    # `auto_docstring` drops the first sentence of a docstring and takes words from tables of transformers' own tree;
    # elsewhere it puts "The None Model" and descriptions of other fields (`codebook_size`: "number of parallel
    # codebooks") in the place of ours
    "TRF057": 21,
}


def test_findings_are_the_known_ones(tmp_path):
    command = [sys.executable, "-m", "mlinter", "--no-progress", "--no-cache", "--output-json", tmp_path / "out.json"]
    subprocess.run([*map(str, command), str(ROOT / "seed_hf" / "models")], capture_output=True, check=False)
    findings = json.loads((tmp_path / "out.json").read_text())["findings"]
    assert Counter(finding["rule"] for finding in findings) == KNOWN, findings
