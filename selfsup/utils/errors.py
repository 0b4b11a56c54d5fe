"""The exception for errors that the user can fix, and other errors as text."""


class InputError(ValueError):
    """Invalid input. The message is one line: what is wrong, what was expected, what to do.

    Commands print that line and exit with status 2. In Python code it is a `ValueError`.
    """


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or its type if it has none.

    Example:
        >>> first_line(ValueError("not a zip file\\nat offset 0")), first_line(EOFError())
        ('not a zip file', 'EOFError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]
