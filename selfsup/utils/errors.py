"""The one kind of error that is the user's to mend."""


class InputError(ValueError):
    """Bad input. Its text is one line: what was wrong, what was expected, what to do.

    Command lines print that line and exit with status 2; library callers catch a `ValueError`.
    """
