import os
import subprocess
import sys
from pathlib import Path

import pytest

from selfsup.config import Config
from selfsup.records import checkpoints, workdir
from selfsup.records.results import write_json
from selfsup.utils.errors import InputError

CONFIG = Config(width=8)


def claimed(path, config=CONFIG, **options):
    with workdir.owned(path, config, **options):
        workdir.write_config(path, config)


def test_a_workdir_belongs_to_one_config_and_seed(tmp_path):
    claimed(tmp_path / "run")
    claimed(tmp_path / "run")
    for other, field in (
        (Config(width=8, seed=1), "seed 0 there, 1 here"),
        (Config(width=16), "width 8 there"),
        (Config(width=8, bn_groups=2), "bn_groups 1 there, 2 here"),
    ):
        with pytest.raises(InputError, match=field):
            claimed(tmp_path / "run", other)


def test_records_older_than_a_setting_belong_to_its_default(tmp_path):
    older = {name: value for name, value in CONFIG.to_dict().items() if name != "bn_groups"}
    write_json(tmp_path / workdir.CONFIG, older)
    claimed(tmp_path)
    write_json(tmp_path / workdir.CONFIG, older)
    with pytest.raises(InputError, match="bn_groups 1 there, 2 here"):
        claimed(tmp_path, Config(width=8, bn_groups=2))


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path):
    code = (
        "import sys; from pathlib import Path; from selfsup.records import workdir; "
        "from selfsup.config import Config\n"
        "with workdir.owned(Path(sys.argv[1]), Config(width=8)): print('in', flush=True); sys.stdin.read()"
    )
    root = Path(workdir.__file__).resolve().parents[2]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=root, **pipes) as first:
        assert first.stdout.readline() == "in\n"
        with pytest.raises(InputError, match=f"process {first.pid} on .* is using"):
            claimed(tmp_path)
        first.kill()
    claimed(tmp_path)


def test_temporary_files_of_a_killed_process_are_deleted(tmp_path):
    for name in (".0badcafe~log.csv", ".00004711~checkpoint-000000012.ckpt", "mine.txt"):
        (tmp_path / name).write_text("half")
    claimed(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "config.json", "mine.txt"]


def filled(folder):
    """A folder with all records of a run, a checkpoint, and a file of the user's."""
    (folder / "mine.txt").write_text("mine")
    for name in workdir.RECORDS:
        (folder / name).write_text("{}")
    (folder / workdir.CONFIG).write_text('{"method": "byol"}')
    (folder / workdir.TENSORBOARD).mkdir()
    (folder / workdir.TENSORBOARD / "events").write_text("")
    checkpoints.save(folder, {}, checkpoints.Checkpoint(1, {}))
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def test_overwrite_deletes_the_run_and_nothing_else(tmp_path):
    filled(tmp_path)
    with workdir.owned(tmp_path, Config(width=16), overwrite=True), workdir.cleared(tmp_path):
        pass
    claimed(tmp_path, Config(width=16))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "config.json", "mine.txt"]


@pytest.mark.parametrize("error", [InputError, RuntimeError, KeyboardInterrupt])
def test_a_failure_brings_the_overwritten_run_back(error, tmp_path):
    before = filled(tmp_path)

    def fail():
        with workdir.cleared(tmp_path):
            (tmp_path / "config.json").write_text("new")
            (tmp_path / workdir.TENSORBOARD).mkdir()
            raise error

    with pytest.raises(error):
        fail()
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
    assert "byol" in (tmp_path / "config.json").read_text()


def test_a_killed_overwrite_brings_the_run_back(tmp_path):
    before = filled(tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from selfsup.records import workdir\n"
        "with workdir.cleared(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    root = Path(workdir.__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root).returncode == -9
    assert not (tmp_path / "result.json").exists()
    with workdir.owned(tmp_path, Config(), overwrite=True):
        (tmp_path / workdir.LOCK).unlink()
        assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_a_run_that_is_being_deleted_does_not_come_back(tmp_path, monkeypatch):
    filled(tmp_path)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(workdir.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), workdir.cleared(tmp_path):
        write_json(tmp_path / "config.json", Config(width=16).to_dict())
    monkeypatch.undo()
    claimed(tmp_path, Config(width=16))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "config.json", "mine.txt"]


def test_the_same_data_may_lie_elsewhere(tmp_path):
    claimed(tmp_path, Config(dataset="here.npz"))
    claimed(tmp_path, Config(dataset="there/data.npz"))


@pytest.mark.parametrize("content", ["[]", "3", '{"name": "another program"}'])
def test_a_foreign_config_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json is not the config of a run"):
        workdir.check_workdir(tmp_path, CONFIG)


def test_a_folder_created_for_bad_input_is_removed(tmp_path):
    with pytest.raises(InputError, match="bad"), workdir.owned(tmp_path / "a" / "b", CONFIG):
        raise InputError("bad")
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        workdir.check_workdir(tmp_path, CONFIG)


@pytest.mark.parametrize("path", ["/proc/selfsup/run", "file/run"])
def test_a_workdir_that_cannot_be_written_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(InputError, match="cannot write to workdir"):
        claimed(Path(path))


def test_a_read_only_workdir_is_refused(tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    if os.access(tmp_path / "run", os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(InputError, match="cannot write to workdir"):
        claimed(tmp_path / "run")


def test_overwrite_spares_a_config_that_is_not_of_a_run(tmp_path):
    foreign = '{"model_type": "bert"}'
    (tmp_path / "config.json").write_text(foreign)
    with (
        pytest.raises(InputError, match="is not the config of a run"),
        workdir.owned(tmp_path, Config(), True),
    ):
        pass
    assert (tmp_path / "config.json").read_text() == foreign
    (tmp_path / "config.json").write_text('{"method": "by')  # cut off, when nothing tells what it was
    with workdir.owned(tmp_path, Config(), overwrite=True):
        pass
