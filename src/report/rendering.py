"""Contents -> one HTML page that needs nothing but itself.

The page escapes every value, has no script, holds its pictures as data and forbids itself to load anything by its
Content-Security-Policy, so that even a mistake of ours, or an address in a model card, cannot make a browser fetch it.
"""

import base64
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from src.expressions import COLOURS, EXPRESSIONS
from src.report.contents import MEASURES, Contents, Figure

_NAMES = {
    "fer2013": "FER2013",
    "expw": "ExpW",
    "ferplus": "FER+",
    "int8": "8-bit variant:",
    "multiview": "mean of several views:",
}
_HERE = Path(__file__).parent


def decimal(value: float) -> str:
    """Three decimals, without the zero in front: .649, 1.057, −.012."""
    text = f"{abs(value):.3f}"
    return ("−" if value < 0 and float(text) else "") + (text[1:] if text.startswith("0.") else text)


def signed(difference: float) -> str:
    """A difference with its sign, or "±0" where three decimals do not show it."""
    text = decimal(difference)
    return "±0" if text == ".000" else text if text.startswith("−") else f"+{text}"


def spoken(key: str) -> str:
    """A key of a file of metrics, or the name of a plot, as people say it."""
    return " ".join(_NAMES.get(word, word) for word in re.split(r"[_ ]", key))


def verdict(figure: Figure, key: str) -> str:
    """A class of page.css: whether the change is for the better."""
    if figure.change is None or signed(figure.change) == "±0":
        return ""
    return "worse" if (figure.change > 0) == (key.endswith("ece")) else "better"


def markdown(text: str) -> Markup:
    """CommonMark with tables as HTML: headings two levels lower, HTML in it shown as text, no pictures."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def dvc_table(text: str) -> Markup:
    """A table of DVC's, whose cells are plain text."""
    return Markup(MarkdownIt("zero").enable("table").render(text))


def data_uri(content: bytes) -> str:
    """A PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def render_page(contents: Contents) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    filters = (decimal, signed, spoken, verdict, markdown, dvc_table, data_uri)
    environment.filters |= {function.__name__: function for function in filters} | {"thousands": "{:,}".format}
    return environment.get_template("page.html.jinja").render(
        page=contents,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        measures={key: name for key, name in MEASURES.items() if any(key in row.figures for row in contents.rows)},
        most=max((sum(counts.values()) for counts in contents.steps.values()), default=0) or 1,
        COLOURS=COLOURS,
        EXPRESSIONS=EXPRESSIONS,
    )
