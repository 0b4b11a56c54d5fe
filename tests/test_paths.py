"""Paths as users type them, in every flag that takes one: one line for what cannot be used."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import selfsup
from selfsup import cli
from selfsup.commands import embed, export, export_npz, reproduce, run
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path
from selfsup.utils.outputs import nested_folder, output_file, output_folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def locked_folder():
    """A folder that this process may neither read nor search, even if it was started by root."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent, "locked")
        folder.mkdir()
        folder.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield folder
        os.seteuid(user)
        folder.chmod(0o700)


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_home_folder(home, tiny_npz, tmp_path, capsys):
    (home / "d.npz").write_bytes(tiny_npz.read_bytes())
    assert export_npz.main(["export_npz", "--dataset=~/d.npz", "--out=~/o.npz"]) == 0
    assert (home / "o.npz").is_file()
    flags = ["--dataset=~/d.npz", "--batch_size=97"]
    assert run.main(["run", *flags, "--workdir=~/runs/one"]) == 2
    assert "96 training images" in one_line(capsys)
    assert reproduce.main(["reproduce", "--report_only", "--out=~/grid"]) == 2
    assert str(home / "grid") in one_line(capsys)
    with pytest.raises(InputError, match=f"{home}.*pass the folder of a finished run"):
        selfsup.load_encoder("~/runs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (run, ["--workdir="]),
        (run, ["--dataset="]),
        (run, ["--dataset=  "]),
        (reproduce, ["--out="]),
        (reproduce, ["--only="]),
        (reproduce, ["--preset=quick", "--shard="]),
        (run, ["--machine="]),
        (reproduce, ["--only=sgd,,byol"]),
        (export_npz, ["--out="]),
        (export, ["--run=.", "--out="]),
        (embed, ["--run=.", "--images=.", "--out="]),
        (embed, ["--run=.", "--images=.", "--page="]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value.__name__.split(".")[-1],
)
def test_an_empty_value_is_named(command, flags, home, capsys):
    assert command.main(["command", *flags]) == 2
    assert flags[-1].split("=")[0].lstrip("-") in one_line(capsys)
    assert list(Path.cwd().iterdir()) == [home]


def test_what_is_read_is_not_replaced(home, tiny_npz, capsys):
    (home / "x.npz").write_bytes(tiny_npz.read_bytes())
    for command, flag in ((embed, "images"), (export_npz, "dataset")):
        flags = ["--run=."] if command is embed else []
        assert command.main(["command", *flags, f"--{flag}=~/x.npz", "--out=~/x.npz"]) == 2
        assert "x.npz is the file that is read; choose another --out" in one_line(capsys)
    assert (home / "x.npz").read_bytes() == tiny_npz.read_bytes()


@pytest.mark.parametrize("source", ["~nobody_has_this_name/x.npz", "x/" * 3000 + "x.npz"])
def test_a_source_that_cannot_be_is_one_line(source, home, capsys):
    assert export_npz.main(["command", f"--dataset={source}", "--out=~/y.npz"]) == 2
    one_line(capsys)


def test_names_may_have_spaces_around_them(capsys):
    assert cli.split_names("only", " table1 , sgd") == ["table1", "sgd"]


@pytest.mark.parametrize("text", ["~nobody_has_this_name/x", "x/" * 3000])
def test_paths_that_cannot_be(text):
    with pytest.raises(InputError, match=r"there is no such home folder|File name too long"):
        user_path("workdir", text)


def test_what_may_not_be_read_is_not_called_empty(locked_folder, capsys):
    with pytest.raises(InputError, match=r"cannot read the folder .*: Permission denied"):
        selfsup.load_dataset(str(locked_folder))
    for inside in (locked_folder / "images", locked_folder / "x.npz"):
        with pytest.raises(InputError, match=r"cannot be used \(Permission denied\)"):
            selfsup.load_dataset(str(inside))
    assert run.main(["run", f"--workdir={locked_folder / 'run'}"]) == 2
    assert "Permission denied" in one_line(capsys)
    for check in (output_file, output_folder, nested_folder):
        with pytest.raises(InputError, match="Permission denied"):
            check("out", str(locked_folder / "new"))


@pytest.mark.parametrize("place", ["file", "file/below", "pipe", "link"])
def test_a_grid_needs_a_folder(place, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert reproduce.main(["reproduce", "--preset=quick", "--only=sgd", f"--out={tmp_path / place}"]) == 2
    assert "is not a folder; choose another --out" in one_line(capsys)
    assert (tmp_path / "file").read_text() == "mine"


def test_folders_of_a_grid_may_be_new(tmp_path):
    assert nested_folder("out", str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"


def test_data_of_a_name_in_another_users_home(home):
    np.savez(home / "x.npz", x_train=np.zeros((4, 32, 32, 3), np.uint8))
    assert selfsup.load_dataset("~/x.npz").training_images == 4
