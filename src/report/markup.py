"""HTML and SVG as text that cannot be unescaped by accident.

`element("td", value, class_="n")` escapes every plain text given to it; only Markup goes in as it is, and nothing but
this module and the Markdown renderer makes Markup.
"""

import html
from typing import Any

_WITHOUT_CONTENT = {"meta", "img", "br"}


class Markup(str):
    """Text that is HTML already."""


def escape(text: Any) -> Markup:
    """`text` as HTML; Markup stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def join(*children: Any) -> Markup:
    """The children one after the other, escaped where they are not Markup."""
    return Markup("".join(escape(child) for child in children))


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """An element with its children. `class_` stands for `class`, an underscore elsewhere for a hyphen."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _WITHOUT_CONTENT:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def table(head: list[str], rows: list[list[Any]], *, class_: str | None = None) -> Markup:
    """A table that scrolls by itself on a narrow screen; the first cell of a row is its heading."""
    header = element("tr", *(element("th", text, scope="col") for text in head))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    inner = element("table", element("thead", header), element("tbody", *body), class_=class_)
    return element("div", inner, class_="scroll", tabindex="0")


def disclosure(title: str, *children: Any) -> Markup:
    """Content that opens with a click on its title, without a script."""
    return element("details", element("summary", title), *children)
