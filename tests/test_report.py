import re
from dataclasses import replace

import pytest
from conftest import fake_result, write_fake_run

from selfsup.records.results import write_json
from selfsup.reproduction.grid import collect
from selfsup.reproduction.registry import EXPERIMENTS
from selfsup.reproduction.report import Report, write_report

SECTIONS = ("table1", "figure4", "figure5", "freq5", "table2")
ACCURACIES = {
    "byol": 84.0,
    "byol_symmetric": 85.5,
    "simsiam": 79.0,
    "directpred": 84.5,
    "directpred_deep": 82.0,
}


def grid_of(out, preset="paper", accuracies=ACCURACIES, seeds=1):
    """A grid with most runs missing, one failed, one diverged."""
    for seed in range(seeds):
        for experiment, accuracy in accuracies.items():
            workdir = out / "runs" / experiment / str(seed)
            write_fake_run(workdir, fake_result(experiment, accuracy + 0.1 * seed, preset, seed))
    write_fake_run(out / "runs" / "sgd_noema" / "0", fake_result("sgd_noema", None, preset))
    failed = out / "runs" / "directcopy" / "0"
    failed.mkdir(parents=True)
    write_json(failed / "failure.json", {"reason": "out of | memory"})
    return out


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    out = grid_of(tmp_path_factory.mktemp("paper"), seeds=2)
    Report(out, collect(out), SECTIONS).write()
    return out


def section(text, title):
    return next(part for part in text.split("\n## ") if part.startswith(title))


def test_tables_stand_beside_the_published_values(paper):
    text = (paper / "REPORT.md").read_text()
    assert text.startswith("# Report at the paper's scale\n")
    table1 = section(text, "Table 1")
    row = "| byol_symmetric | 85.7 | 85.55 ± 0.07 (n = 2) | -0.15 | 85.55 ± 0.07 | 8.00 ± 0.00 | 0 of 2 |"
    assert row in table1
    assert "| simsiam_symmetric | 20.3 | no result | - | - | - | - |" in table1
    table2 = section(text, "Table 2")
    assert "| directpred_deep_reused | 80.7 | 80.05 ± 0.07 (n = 2) |" in table2
    assert "| sgd_deep | 82.3 | no result |" in table2
    assert "published code tests for a name" in table2
    figure5 = section(text, "Figure 5")
    assert r"| directcopy | 84.6 | failed: out of \| memory |" in figure5
    assert "failed: the loss became infinite" in figure5
    failed = section(text, "Runs without an accuracy")
    assert r"| directcopy | 0 | out of \| memory |" in failed
    assert "| sgd_noema | 0 | the loss" in failed


def test_the_weight_decay_study_shows_the_article_and_the_raw_results(tmp_path):
    out = grid_of(tmp_path, accuracies={"byol_decay_none": 81.0})
    Report(out, collect(out), ["weight_decay"]).write()
    study = section((out / "REPORT.md").read_text(), "Weight decay")
    assert "| byol_decay_none | 81.34 (raw: 80.42) | 81.00 (n = 1) | -0.34 |" in study
    (row,) = re.findall(r"\| byol_symmetric_decay_predictor .*", study)
    assert row.endswith("| article Table 3; raw: " + EXPERIMENTS["byol_decay_none"].raw.source + " |")
    assert "exchanged" in study
    assert "raw" not in re.findall(r"\| byol_decay_predictor .*", study)[0]


def test_provenance_stands_under_every_table_that_has_runs(paper):
    text = (paper / "REPORT.md").read_text()
    for title, there in (("Table 1", True), ("Table 2", True), ("Figure 5", True), ("Figure 4", False)):
        facts = ("preset paper; width 64; 100 epochs", "a device", "keras 3.15.1", "commit c0ffee")
        assert all((fact in section(text, title)) == there for fact in facts)


def test_claims_have_verdicts_with_their_figures(paper):
    claims = section((paper / "REPORT.md").read_text(), "The paper's claims")
    assert re.search(r"\| Symmetric W_p helps BYOL \| holds \| byol_symmetric - byol = \+1\.50 \[", claims)
    assert "| Symmetric SimSiam collapses | undecided | simsiam_symmetric: no result |" in claims
    assert "at this scale" not in claims


def test_another_scale_is_said_loudly(tmp_path):
    out = grid_of(tmp_path, "quick")
    Report(out, collect(out), SECTIONS).write()
    text = (out / "REPORT.md").read_text()
    assert text.startswith("# NOT the paper's scale")
    assert "do not reproduce" in text.split("\n## ")[0]
    assert "preset quick; width 16; 3 epochs; batch 64" in text
    assert "too short to tell" in text
    assert "| claim | verdict at this scale |" in text
    assert "<title>NOT the paper&#x27;s scale" in (out / "report.html").read_text()


def test_a_report_of_nothing_says_so(tmp_path):
    Report(tmp_path, collect(tmp_path), SECTIONS).write()
    assert (tmp_path / "REPORT.md").read_text().startswith("# Report: no run has finished")


def test_figures_are_linked_and_the_page_holds_them_itself(paper):
    text, page = (paper / "REPORT.md").read_text(), (paper / "report.html").read_text()
    linked = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert {"figures/figure2.png", "figures/figure3.png", "figures/figure5.png"} <= set(linked)
    assert all((paper / path).is_file() for path in linked)
    sources = re.findall(r'(?:src|href)="(.+?)"', page)
    assert len(sources) == len(linked) + 1
    assert all(source.startswith("data:") for source in sources)


def test_the_same_records_give_the_same_report(paper):
    files = [path for path in paper.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    Report(paper, collect(paper), SECTIONS).write()
    assert {path: path.read_bytes() for path in files} == before


def test_the_page_opens_without_a_console_error(paper, screenshot):
    screenshot(paper / "report.html", (1000, 4000))


def test_a_report_on_stl10_names_its_source_and_not_the_papers_scale(tmp_path):
    result = fake_result("directpred", 77.0, "stl10")
    result = replace(result, dataset={**result.dataset, "name": "stl10"})
    write_fake_run(tmp_path / "runs" / "directpred" / "0", result)
    write_report(tmp_path, ["directpred"], "paper")
    text = (tmp_path / "REPORT.md").read_text()
    assert text.startswith("# Report on STL-10\n")
    assert "come from Tian et al. 2021" in text
    assert "NOT the paper" not in text
    assert "| directpred | 77.86 ± 0.16 | 77.00 (n = 1) |" in section(text, "Table 8 of Tian et al.")


def test_a_run_without_labels_was_run(tmp_path):
    result = replace(fake_result("sgd", 50.0, "paper"), accuracy={})
    write_fake_run(tmp_path / "runs" / "sgd" / "0", result)
    write_report(tmp_path, ["sgd"], "paper")
    text = (tmp_path / "REPORT.md").read_text()
    assert "| sgd | 83.3 | no labels |" in text
    assert "directpred - sgd: no result" in text


def test_the_section_that_was_asked_for_is_there(tmp_path):
    twin = "simsiam_symmetric_tuned"
    write_fake_run(tmp_path / "runs" / twin / "0", fake_result(twin, 79.0))
    for planned, there in (((twin,), False), (("simsiam_symmetric_decay_predictor",), True)):
        write_report(tmp_path, planned, "paper", force=True)
        assert ("## Weight decay" in (tmp_path / "REPORT.md").read_text()) == there
