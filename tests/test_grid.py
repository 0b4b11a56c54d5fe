import shutil
import threading

import pytest
from conftest import fake_result, write_fake_run

from selfsup.reproduction import grid
from selfsup.reproduction.registry import EXPERIMENTS, SECTIONS, sections_of
from selfsup.utils.errors import InputError


class FakeRunner:
    """Leaves records at once; fails, dies or diverges where it is told to."""

    def __init__(self, fails=(), diverges=(), dies_at=None):
        self.fails, self.diverges, self.dies_at = fails, diverges, dies_at
        self.made = []

    def __call__(self, job):
        if len(self.made) == self.dies_at:
            job.workdir.mkdir(parents=True)
            (job.workdir / "config.json").write_text("{}")
            raise KeyboardInterrupt
        self.made.append((job.experiment, job.seed))
        if job.experiment in self.fails:
            return "out of memory"
        if job.workdir.exists():
            for path in job.workdir.iterdir():
                path.unlink()
            job.workdir.rmdir()
        accuracy = None if job.experiment in self.diverges else 50.0 + len(job.experiment)
        write_fake_run(job.workdir, fake_result(job.experiment, accuracy, "quick", job.seed))
        return grid.DIVERGED if accuracy is None else None


def plan(out, parts=("table1",), seeds=1, **overrides):
    return grid.plan("quick", parts, seeds, out, overrides)


def test_plan_has_every_experiment_once_and_the_first_seeds_first(tmp_path):
    jobs = plan(tmp_path, ("figure4", "weight_decay"), seeds=2)
    assert len(jobs) == 2 * 8
    assert [job.seed for job in jobs] == [0] * 8 + [1] * 8
    names = [job.experiment for job in jobs[:8]]
    assert "simsiam_symmetric_tuned" in names
    assert "simsiam_symmetric_decay_predictor" not in names
    assert len({job.workdir for job in jobs}) == 16
    assert len({job.config.fingerprint for job in jobs}) == 8


def test_the_parts_cover_the_registry():
    names = {name for part in SECTIONS.values() for name in part.experiments}
    assert names == set(EXPERIMENTS)
    assert len(grid.experiments_of(sections_of("paper"))) == 21
    assert len(grid.experiments_of(sections_of("stl10"))) == 17
    assert set(sections_of("quick")) == set(sections_of("paper")) - {"weight_decay"}


def test_parts_and_experiments_are_named(tmp_path):
    assert grid.experiments_of(["sgd", "figure4"]) == ("sgd", "simsiam_symmetric_tuned")
    with pytest.raises(InputError, match="tabel1"):
        plan(tmp_path, ("tabel1",))


def test_finished_runs_are_not_made_again(tmp_path):
    runner = FakeRunner()
    assert grid.execute(plan(tmp_path), runner) == {}
    assert len(runner.made) == 4
    again = FakeRunner()
    assert grid.execute(plan(tmp_path, seeds=2), again) == {}
    assert again.made == [(job.experiment, 1) for job in plan(tmp_path)]


def test_an_interrupted_grid_resumes_to_the_same_end(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    grid.execute(plan(whole), FakeRunner())
    with pytest.raises(KeyboardInterrupt):
        grid.execute(plan(parts), FakeRunner(dies_at=2))
    (parts / "runs" / "simsiam_symmetric" / "0" / "config.json").unlink()
    states = [job.state for job in plan(parts)]
    assert states == ["finished", "finished", "missing", "missing"]
    rest = FakeRunner()
    grid.execute(plan(parts), rest)
    assert len(rest.made) == 2
    assert [run.result for run in grid.collect(whole)] == [run.result for run in grid.collect(parts)]


def test_a_run_that_has_begun_is_interrupted_until_it_has_a_result(tmp_path):
    (job, *_) = plan(tmp_path)
    assert job.state == "missing"
    write_fake_run(job.workdir, fake_result(job.experiment, 50.0, "quick"))
    assert job.state == "finished"
    (job.workdir / "result.json").unlink()
    assert job.state == "interrupted"


def test_a_failure_does_not_stop_the_rest_and_is_tried_again(tmp_path):
    runner = FakeRunner(fails=("byol",), diverges=("simsiam",))
    failed = grid.execute(plan(tmp_path), runner)
    assert len(runner.made) == 4
    assert {job.experiment: reason for job, reason in failed.items()} == {
        "byol": "out of memory",
        "simsiam": grid.DIVERGED,
    }
    assert {run.experiment: run.failure for run in grid.collect(tmp_path) if run.failure} == {
        "byol": "out of memory",
        "simsiam": grid.DIVERGED,
    }
    assert [job.state for job in plan(tmp_path) if job.experiment == "byol"] == ["failed"]
    again = FakeRunner()
    failed = grid.execute(plan(tmp_path), again)
    assert again.made == [("byol", 0)]
    assert [job.experiment for job in failed] == ["simsiam"]
    assert [run.failure for run in grid.collect(tmp_path) if run.experiment == "byol"] == [None]


def test_shards_make_the_whole_and_stay_the_same_while_runs_finish(tmp_path):
    jobs = plan(tmp_path, ("table1", "figure5"))
    shares = [grid.shard(jobs, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(job.experiment for share in shares for job in share) == sorted(j.experiment for j in jobs)
    assert {len(share) for share in shares} == {3, 4}
    grid.execute(shares[0], FakeRunner())
    assert [job.experiment for job in grid.shard(plan(tmp_path, ("table1", "figure5")), "2/3")] == [
        job.experiment for job in shares[1]
    ]


@pytest.mark.parametrize("which", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", ""])
def test_a_bad_shard_is_refused(tmp_path, which):
    with pytest.raises(InputError, match="shard"):
        grid.shard(plan(tmp_path), which)


def test_a_folder_with_runs_of_other_settings_is_refused(tmp_path):
    grid.execute(plan(tmp_path), FakeRunner())
    with pytest.raises(InputError, match=r"epochs 3 there, 4 here.*another --out, or delete that folder"):
        plan(tmp_path, epochs=4)


def test_workers_make_runs_side_by_side(tmp_path):
    """Both runs wait for each other, so that they can only end together."""
    together = threading.Barrier(2, timeout=60)

    def runner(job):
        together.wait()
        return FakeRunner()(job)

    jobs = plan(tmp_path)[:2]
    assert grid.execute(jobs, runner, workers=2) == {}
    assert [job.state for job in jobs] == ["finished", "finished"]


def test_what_stops_the_grid_reaches_the_runs_under_way_and_starts_no_other(tmp_path):
    under_way, told, started = threading.Event(), threading.Event(), []

    def runner(job):
        started.append(job)
        if job is jobs[0]:
            under_way.wait(60)
            raise KeyboardInterrupt
        under_way.set()
        assert told.wait(60)
        raise KeyboardInterrupt

    jobs = plan(tmp_path, seeds=2)
    with pytest.raises(KeyboardInterrupt):
        grid.execute(jobs, runner, workers=2, stop=lambda _: told.set())
    assert sorted(started, key=jobs.index) == jobs[:2]


def test_a_copied_run_does_not_count_twice(tmp_path):
    grid.execute(plan(tmp_path, ("sgd",)), FakeRunner())
    copy = tmp_path / "runs" / "sgd" / "1"
    shutil.copytree(tmp_path / "runs" / "sgd" / "0", copy)
    with pytest.raises(InputError, match=r"sgd/1 holds a run of experiment sgd with seed 0; move it away"):
        grid.collect(tmp_path)
    copy.rename(copy.with_name("\u00b2"))
    assert [run.seed for run in grid.collect(tmp_path)] == [0]
