import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from selfsup.utils.interrupts import Interrupted, Interruption

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_is_raised_immediately_or_after_the_block(signum, status):
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted) as stop, Interruption():
        os.kill(os.getpid(), signum)
    assert stop.value.status == status
    interruption = Interruption()

    def loop() -> None:
        with interruption, interruption.deferred():
            os.kill(os.getpid(), signum)
            assert interruption.received == signum

    with pytest.raises(Interrupted):
        loop()
    assert signal.getsignal(signum) is before


def test_a_second_ctrl_c_ends_even_native_code_immediately():
    code = (
        "import hashlib, os, signal, threading\n"
        "from selfsup.utils.interrupts import Interruption\n"
        "def ask(): os.kill(os.getpid(), signal.SIGINT)\n"
        "with Interruption() as i, i.deferred():\n"
        "    threading.Timer(0.3, ask).start(); threading.Timer(0.8, ask).start()\n"
        "    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 130
    assert "stopping after this step" in done.stderr


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interruption.received is None
    finally:
        signal.signal(signal.SIGHUP, before)
