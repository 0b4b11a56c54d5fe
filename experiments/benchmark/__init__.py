"""The benchmark. Without the packages that all commands need, it ends in one line."""

import selfsup.commands  # noqa: F401
