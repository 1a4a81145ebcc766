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
    for name in ("common", "history", "prefixes", "quantizer", "run", "schedulers"):
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


def one_result(ratio, spread=0.02, quick=False, **fields):
    timed = {"ratio": ratio, "ratio_spread": spread, "rounds": 5}
    row = {"case": "batch 1", "ratio": ratio, "met": None, "timed": timed, **fields}
    return {"speed": {"machine": {"cpu": "a", "cores": 2}, "quick": quick, "rows": [row]}}


def test_what_got_worse_is_said():
    from history import what_got_worse

    kept = one_result(1.0)
    for better, steady, worse in (("lower", (0.5, 1.05), 1.1), ("higher", (2.0, 0.95), 0.9)):
        for ratio in steady:
            assert what_got_worse(kept, one_result(ratio, better=better)) == []
        assert what_got_worse(kept, one_result(worse, better=better)) == [
            f"speed: batch 1: 1.000 before, {worse:.3f} now"
        ]
    # rounds that differ more among each other say less
    assert what_got_worse(kept, one_result(1.1, spread=0.2)) == []
    assert what_got_worse(kept, one_result(1.1, case="batch 2")) == ["speed: batch 1 is no longer measured"]
    assert what_got_worse(kept, one_result(9.0, quick=True)) == [
        "speed: not compared, since cpu a, cores 2 was kept and this is cpu a, cores 2, toy sizes"
    ]
    lost = what_got_worse(one_result(None, met=True), one_result(None, met=False))
    assert lost == ["speed: batch 1: goal met before, goal missed now"]


def test_rows_with_points_are_drawn(tmp_path):
    import common
    from history import draw_curves

    rows = [common.row("no point", "", "", None, "", None)]
    for line in ("ours", "other"):
        for size in (1e4, 1e6):
            point = {"curve": "Cost of a row", "line": line, "x": {"rows": size}, "y": {"seconds": size / 1e4}}
            rows.append(common.row(f"{line} {size}", "", "", 1.0, "", None, point=point))
    (path,) = draw_curves(tmp_path, "large", rows)
    assert path == tmp_path / "large-cost-of-a-row.png" and path.read_bytes().startswith(b"\x89PNG")


def test_work_of_child_processes_has_a_clock():
    import subprocess

    import common

    before = common.children_time()
    subprocess.run([sys.executable, "-c", "sum(range(1_000_000))"], check=True)
    assert common.children_time() > before


@pytest.mark.slow
def test_schedulers_are_compared(tmp_path):
    """Slow, since all captions of the data set have to be read."""
    import schedulers

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- schedulers -->\n<!-- /schedulers -->\nafter\n")
    settings = ["--limit", "3", "--schedulers", "DDIMScheduler", "--steps", "1", "2", "--output", str(page)]
    schedulers.main(settings)
    assert "| 1 steps | 2 steps |\n" in page.read_text() and "\n| `DDIMScheduler` | " in page.read_text()
