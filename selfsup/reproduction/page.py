"""A Markdown report as one HTML file, and its tables."""

import html
import re
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import markdown

_IN_LINKS = "".join(set(string.punctuation + " ") - set('"#%&'))
"""Characters that a data link in a quoted attribute holds as they are."""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid #ccc }}
table {{ border-collapse: collapse; font-size: 0.9rem; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: 0.3rem 0.6rem; border-bottom: 1px solid #ddd }}
th {{ border-bottom: 2px solid #888 }}
img {{ max-width: 100%; display: block; margin: 1.5rem auto 0 }}
em {{ color: #555 }}
small {{ color: #555 }}
blockquote {{ margin: 1rem 0; padding: 0.5rem 1rem; background: #fff1d6; border-left: 0.4rem solid #d55e00 }}
.holds {{ color: #00684c; font-weight: bold; white-space: nowrap }}
.does {{ color: #b34700; font-weight: bold; white-space: nowrap }}
.undecided {{ color: #555; white-space: nowrap }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def to_html(text: str, folder: Path) -> str:
    """Converts Markdown to a page that opens from disk without a network, with figures embedded as SVG.

    Args:
        text: Markdown whose images are paths of PNG files in `folder`, each beside an SVG of the same name.
        folder: base of the paths.
    """

    def inline(match: re.Match[str]) -> str:
        svg = (folder / match[1]).with_suffix(".svg").read_text(encoding="utf-8")
        text = " ".join(svg.splitlines())  # browsers drop line breaks in a link
        return f'src="data:image/svg+xml,{quote(text, safe=_IN_LINKS)}"'

    body = markdown.markdown(text, extensions=["tables"])
    body = body.replace("(n = ", "(n&nbsp;=&nbsp;").replace(" ± ", "&nbsp;±&nbsp;")
    body = re.sub(r'src="([^":]+\.png)"', inline, body)
    body = re.sub(
        r"<td>(holds|does not hold|undecided)</td>", lambda m: f'<td class="{m[1]}">{m[1]}</td>', body
    )
    return PAGE.format(title=html.escape(text.splitlines()[0].lstrip("# ")), body=body)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
