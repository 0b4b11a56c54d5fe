import pytest

from selfsup.utils import files
from selfsup.utils.files import locked, or_warning, replacement, replacing, sweep


def test_a_file_is_replaced_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail():
        with replacing(path, "wb") as file:
            file.write(b"half of the n")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_replacement_keeps_the_suffix_and_its_temporary_file_is_swept(tmp_path):
    with replacement(tmp_path / "a.npz") as temporary:
        temporary.write_bytes(b"new")
        assert temporary.suffix == ".npz"
    assert (tmp_path / "a.npz").read_bytes() == b"new"
    (tmp_path / temporary.name).write_bytes(b"half")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_full_disk_becomes_a_warning(capsys):
    with or_warning("log.csv"):
        raise OSError(28, "No space left on device")
    assert capsys.readouterr().err == "warning: cannot write log.csv (No space left on device); continuing\n"


def test_a_lock_is_held_by_one(tmp_path):
    with locked(tmp_path / "lock", wait=False) as file:
        file.write("mine")
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait=False):
            pass
    with locked(tmp_path / "lock", wait=True):
        assert (tmp_path / "lock").read_text() == "mine"


def test_a_lock_file_that_its_holder_deletes_is_not_shared(tmp_path, monkeypatch):
    """Who has opened the file before it was deleted must not hold the lock of the deleted file."""
    path, lock, calls = tmp_path / ".lock", files._lock, []

    def after_its_deletion(file, wait):
        if not calls:
            path.unlink()
        calls.append(wait)
        lock(file, wait)

    monkeypatch.setattr(files, "_lock", after_its_deletion)
    with locked(path, wait=True):
        assert calls == [True, True]
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pass
