from selfsup.utils.clock import duration


def test_duration():
    assert [duration(s) for s in (5, 600, 12_000)] == ["5 s", "10 min", "3 h 20 min"]
