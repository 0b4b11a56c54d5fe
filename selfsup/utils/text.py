"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun.

    Example:
        >>> counted(1, "run"), counted(50_000, "image")
        ('1 run', '50,000 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
