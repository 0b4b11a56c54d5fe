"""A worker of the benchmark whose networks are shallow, and whose clock moves by a second a look."""

import itertools
import json
import sys
from types import SimpleNamespace

from experiments.benchmark import workers
from shallow import make_shallow

if __name__ == "__main__":
    make_shallow()
    workers.time = SimpleNamespace(perf_counter=itertools.count().__next__)
    workers.serve(json.loads(sys.argv[1]))
