"""`experiments/run.py` with a shallow network, on a CPU that counts as so many devices.

python shallow_run.py DEVICES --flags ...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from device_steps import divide_cpu
from selfsup.commands import run
from shallow import make_shallow

if __name__ == "__main__":
    divide_cpu(int(sys.argv[1]))
    make_shallow()
    sys.exit(run.main([sys.argv[0], *sys.argv[2:]]))
