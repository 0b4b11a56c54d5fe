"""The benchmark. If a package that all commands need is missing, it exits with a one-line error."""

import selfsup.commands  # noqa: F401
