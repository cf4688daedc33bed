"""Contents -> one HTML page that needs nothing but itself, or the comment that CI puts under a pull request.

The page escapes every value, has no script, holds its pictures as data and forbids itself to load anything by its
Content-Security-Policy, so that even a mistake of ours, or an address in a model card, cannot make a browser fetch it.
"""

import base64
import re
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
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
_MOST_CHARACTERS = 60_000  # GitHub takes 65,536
_HERE = Path(__file__).parent


def decimal(value: float) -> str:
    """Three decimals, without the zero in front: .649, 1.057, −.012."""
    text = f"{abs(value):.3f}"
    return ("−" if value < 0 and float(text) else "") + (text[1:] if text.startswith("0.") else text)


def signed(difference: float | None) -> str:
    """A difference with its sign, "±0" where three decimals do not show it, or nothing."""
    if difference is None:
        return ""
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


def plain(text: str) -> str:
    """Without what could make a link, a picture, a mention or HTML of it: values come with the pull request."""
    return re.sub(r"[^\w\s|.,+%/()−±→-]|www\.", " ", text, flags=re.IGNORECASE)


def markdown(text: str) -> Markup:
    """CommonMark with tables as HTML: headings two levels lower, HTML in it shown as text, no pictures."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return _scrolling(parser.renderer.render(tokens, parser.options, {}))


def dvc_table(text: str) -> Markup:
    """A table of DVC's, whose cells are plain text."""
    return _scrolling(MarkdownIt("zero").enable("table").render(text))


def _scrolling(rendered: str) -> Markup:
    """Tables scroll by themselves on a narrow screen."""
    opened = rendered.replace("<table>", '<div class="scroll" tabindex="0"><table>')
    return Markup(opened.replace("</table>", "</table></div>"))


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=select_autoescape(["html.jinja"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {
        function.__name__: function
        for function in (decimal, signed, spoken, verdict, plain, markdown, dvc_table, data_uri, quote)
    } | {"thousands": "{:,}".format}
    environment.globals |= {"COLOURS": COLOURS, "EXPRESSIONS": EXPRESSIONS}
    return environment


def render_page(contents: Contents) -> str:
    """The page as HTML."""
    style = Markup((_HERE / "page.css").read_text(encoding="utf-8"))
    measures = {key: name for key, name in MEASURES.items() if any(key in row.figures for row in contents.rows)}
    return _environment().get_template("page.html.jinja").render(page=contents, style=style, measures=measures)


def render_comment(contents: Contents, pictures: str = "") -> str:
    """Markdown of at most 60,000 characters. `pictures`: an address to which /<commit>/<path> is added, or ""."""
    text = _environment().get_template("comment.md.jinja").render(page=contents, pictures=pictures.rstrip("/"))
    if len(text) > _MOST_CHARACTERS:
        return text[:_MOST_CHARACTERS].rpartition("\n")[0] + "\n\nCut here: it was too long.\n"
    return text
