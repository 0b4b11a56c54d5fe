"""The exception for errors that the user can fix."""


class InputError(ValueError):
    """Invalid input. The message is one line: what is wrong, what was expected, what to do.

    Commands print that line and exit with status 2. In Python code it is a `ValueError`.
    """
