import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from selfsup.utils.interrupts import STOP_AT_EOF, Interrupted, Interruption

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
        "import hashlib\n"
        "from selfsup.utils.interrupts import Interruption\n"
        "with Interruption() as i, i.deferred():\n"
        "    print('in', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2**31 - 1)\n"  # hours
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "\n"
        assert "stopping after this step" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


@pytest.mark.parametrize("stops", [True, False])
def test_the_end_of_stdin_stops_a_process_that_asks_for_it(stops):
    code = (
        "import time\n"
        "from selfsup.utils.interrupts import Interrupted, Interruption\n"
        "try:\n"
        "    with Interruption():\n"
        "        print('in', flush=True)\n"
        f"        time.sleep({600 if stops else 0.5})\n"
        "except Interrupted as stop:\n"
        "    print(stop)\n"
    )
    environment = {**os.environ, STOP_AT_EOF: "1"} if stops else None
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "in\n"
        assert process.communicate()[0] == ("stopped by SIGTERM\n" if stops else "")


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interruption.received is None
    finally:
        signal.signal(signal.SIGHUP, before)
