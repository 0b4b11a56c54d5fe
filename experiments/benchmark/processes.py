"""The processes of the benchmark, one for each variant; they wait for their turn."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULE = "experiments.benchmark.workers"
"""What the processes run."""


class Worker:
    """A process that times steps of one variant on request.

    Args:
        spec: `kind` (a name in `workers.KINDS`), `steps` (per round) and `config` (fields of `Config`).
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        command = [sys.executable, "-m", MODULE, json.dumps(spec)]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process runs
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT
        )
        self._answer()

    def ask(self, question: str) -> Any:
        """Sends a question and returns the answer of the process.

        Args:
            question: "step" for the seconds per step in a round, "phases" or "probe" for seconds by name,
                "memory" for the peak in MiB, "environment" for device and versions.
        """
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Stops the process."""
        with self._process, self._errors:  # closes the pipes and waits
            pass

    def _answer(self) -> Any:
        for line in self._process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        self._errors.seek(0)
        *_, reason = self._errors.read().splitlines() or ["no reason given"]
        raise RuntimeError(f"the process of {self.spec['kind']} ended: {reason}")
