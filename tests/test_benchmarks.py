"""The measuring tools of benchmarks/, and one benchmark at toy size."""

import json
import sys

import pytest
from tiny import BENCHMARKS


@pytest.fixture(autouse=True)
def import_path(monkeypatch):
    """The benchmarks are scripts: they import each other from their own folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("common", "quantizer", "run"):
        sys.modules.pop(name, None)


def test_both_sides_are_timed_in_turns():
    import common

    calls = []
    timed = common.compare(lambda: calls.append("a"), lambda: calls.append("b"), rounds=4, warmup=1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab" + "ba"
    assert timed["rounds"] == 4


def test_ratio_is_ours_over_baseline():
    import common

    def work(size):
        return sum(range(size))

    timed = common.compare(lambda: work(3_000_000), lambda: work(300_000), rounds=5)
    assert 3 < timed["ratio"] < 30
    assert timed["ours_s"] > timed["baseline_s"]


def test_benchmark_writes_its_results_and_the_page(tmp_path, capsys):
    import common
    import quantizer
    import run

    common.run("quantizer", "Quantizer alone", quantizer.measure, ["--quick", "--output_dir", str(tmp_path)])
    result = json.loads((tmp_path / "quantizer.json").read_text())
    assert [row["codes_equal"] > 0.99 for row in result["rows"]] == [True, True]
    assert {"date", "cpu", "cores", "versions"} <= set(result["machine"])
    page = run.write_report(tmp_path).read_text()
    assert common.as_table(result["rows"]) in page and "toy sizes" in page
    assert common.as_table(result["rows"]) in capsys.readouterr().out
