import json

import pytest

from selfsup.records import results
from selfsup.utils.errors import InputError


def test_a_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    results.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        results.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_damaged_records_are_named(tmp_path):
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match="result"):
        results.read_result(tmp_path)


def test_commit_names_the_code():
    commit = results.commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40
