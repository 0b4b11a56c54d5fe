import pytest

from selfsup import collapse


@pytest.mark.parametrize(
    ("epochs", "rank", "std", "collapsed"),
    [
        (4, 1.0, 0.0, False),
        (5, 1.9, 0.8, True),
        (5, 2.0, 0.8, False),
        (9, 8.0, 0.09, True),
        (9, 8.0, 0.1, False),
    ],
)
def test_collapse_rule(epochs, rank, std, collapsed):
    assert collapse.is_collapsed(epochs, rank, std) is collapsed
