import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import fake_result

from selfsup.records import results
from selfsup.utils.errors import InputError


def test_a_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    results.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        results.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


DAMAGED = {
    "cut": ("{", "Expecting property name"),
    "a list": ("[]", "no JSON object"),
    "bytes": ("\udcff", "codec can't decode"),
    "a field more": ({"colour": 1}, "unknown field 'colour'"),
    "a field less": ({"weights": None}, "no field 'weights'"),
    "a wrong type": ({"accuracy": 3}, "accuracy is 3"),
    "newer": ({"schema": 99}, "schema 99: written by a newer selfsup"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_record_that_is_none_gets_one_line(case, tmp_path):
    content, named = DAMAGED[case]
    if isinstance(content, dict):
        record = {**asdict(fake_result("byol", 70.0)), **content}
        content = json.dumps({key: value for key, value in record.items() if value is not None})
    path = tmp_path / "result.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=named) as caught:
        results.read_result(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_records_of_the_first_version_are_read(tmp_path):
    record = asdict(fake_result("byol", 70.0))
    for name in ("schema", "swapped", "skipped"):
        del record[name]
    results.write_json(tmp_path / "result.json", record)
    found = results.read_result(tmp_path)
    assert (found.schema, found.swapped, found.accuracy["linear"]) == (1, {}, 70.0)
    found.write(tmp_path)
    assert results.read_result(tmp_path) == found


def test_commit_names_the_code():
    root = Path(results.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        assert results.commit() is None
        return
    head = subprocess.check_output(["git", "-C", str(root), "rev-parse", "HEAD"], text=True).strip()
    assert results.commit().removesuffix("-dirty") == head
