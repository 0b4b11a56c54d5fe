"""The commands, one module each. If a package that all of them need is missing, they exit with one line."""

import sys
from importlib.util import find_spec

for _package, _name in {"absl": "absl-py", "numpy": "numpy"}.items():
    if find_spec(_package) is None:
        print(
            f"error: {_name} is not installed for {sys.executable}; pip install -r requirements.txt, "
            "or use the Python of the environment that has it",
            file=sys.stderr,
        )
        raise SystemExit(2)
