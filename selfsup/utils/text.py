"""Numbers in sentences, and texts in Markdown."""

import re


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun.

    Example:
        >>> counted(1, "run"), counted(50_000, "image")
        ('1 run', '50,000 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def literal(text: str) -> str:
    """Returns text in which Markdown changes nothing.

    Example:
        >>> print(literal("no field '__init__'"))
        no field '\\_\\_init\\_\\_'
    """
    return re.sub(r"([\\`*_<\[])", r"\\\1", text)
