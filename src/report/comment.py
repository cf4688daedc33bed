"""Contents -> the comment that CI puts under a pull request: what differs from the base, as GitHub's Markdown.

Values come from whoever wrote the pull request. They stand in code spans with what could end a span or a table cell
taken out, so that they cannot make links, pictures or mentions.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from src.report.contents import Contents
from src.report.figures import signed
from src.report.revisions import Change

_HEADLINES = ("accuracy", "macro_f1", "ece")
_MOST_ROWS = 200  # of a table; GitHub takes 65,536 characters
_MOST_CHARACTERS = 60_000


def _span(value: Any, most: int = 100) -> str:
    """`value` as a code span that holds whatever is in it."""
    text = "absent" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
    text = re.sub(r"[`|\s]+", " ", text).strip() or " "
    return f"`{text if len(text) <= most else text[: most - 1] + '…'}`"


def _label(name: str) -> str:
    """A name of ours as plain text; of another one what cannot be a link, a mention or a picture."""
    return re.sub(r"[^\w ,*-]+", " ", name).strip().replace("*", "\\*").replace("_", "\\_")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows[:_MOST_ROWS]]
    written = [f"| {' | '.join(line)} |" for line in lines]
    if len(rows) > _MOST_ROWS:
        written.append(f"\n{len(rows) - _MOST_ROWS} more: `dvc metrics diff` lists all.")
    return written


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def _difference(change: Change | None) -> str:
    if change is None:
        return ""
    return "new" if change.difference is None else signed(change.difference)


def _counted(count: int, what: str) -> str:
    return f"1 {what} differs" if count == 1 else f"{count} {what}s differ"


def render_comment(contents: Contents, pictures: str = "") -> str:
    """Markdown of at most 60,000 characters. `pictures`: an address to which /<commit>/<path> is added, or ""."""
    differences = contents.differences
    lines = ["### Model and data against the base", ""]
    if differences.trouble:
        return "\n".join([*lines, differences.trouble]) + "\n"
    assert differences.against
    if not (differences.metrics or differences.params or differences.plots):
        lines.append(f"No metric, parameter or plot differs from {_span(differences.against.short)}.")
        return "\n".join(lines) + "\n"
    now = contents.revision.short if contents.revision else "the working tree"
    if contents.uncommitted:
        now += " and uncommitted changes"
    lines.append(f"{_span(differences.against.short)} → {_span(now)}, data set {_span(contents.dataset)}")
    lines += ["", *_headlines(contents)]
    lines += ["", "**Parameters**", ""]
    if differences.params:
        rows = [[_span(change.name), _span(change.old), _span(change.new)] for change in differences.params]
        lines += _table(["parameter", "before", "now"], rows)
    else:
        lines.append("No parameter differs.")
    lines += ["", "**Metrics**", ""]
    if differences.metrics:
        rows = [
            [_span(change.file), _span(change.name), _span(change.old), _span(change.new), _difference(change)]
            for change in differences.metrics
        ]
        title = _counted(len(rows), "metric")
        lines += _folded(title, _table(["file", "metric", "before", "now", "change"], rows))
    else:
        lines.append("No metric differs: the results in this pull request are those of the base.")
    lines += ["", "**Plots**", "", *_plots(contents, pictures)]
    text = "\n".join(lines) + "\n"
    if len(text) > _MOST_CHARACTERS:
        return text[:_MOST_CHARACTERS].rpartition("\n")[0] + "\n\n</details>\n\nCut here: it was too long.\n"
    return text


def _headlines(contents: Contents) -> list[str]:
    """The figures of test, with intervals and changes."""
    rows = []
    for row in contents.rows:
        if row.split == "test":
            cells = []
            for measure in _HEADLINES:
                figure = row.figures.get(measure)
                change = _difference(figure.change) if figure else ""
                cells.append(f"{figure.text}{f' **{change}**' if change else ''}" if figure else "")
            rows.append([_label(row.name), f"{row.n:,}", *cells])
    if not rows:
        return ["`metrics/evaluate.json` is missing, so there are no figures to show."]
    table = _table(["test faces", "n", "accuracy (95 %)", "macro F1 (95 %)", "calibration error"], rows)
    note = ["", f"\\* {_span(contents.fer2013_note, 300)}"] if contents.fer2013_note else []
    note += ["", "A change smaller than the interval can be chance."] if contents.differences.metrics else []
    return [*table, *note]


def _plots(contents: Contents, pictures: str) -> list[str]:
    differences = contents.differences
    if not differences.plots:
        return ["No plot differs."]
    lines = [f"- {_span(path)}" for path in differences.plots]
    if not (pictures and differences.against and contents.revision):
        return lines
    rows = []
    for picture in contents.plots:
        if picture.path in differences.plots:
            before = _link(pictures, differences.against.hash, picture.path) if picture.before is not None else "absent"
            rows.append([before, _link(pictures, contents.revision.hash, picture.path)])
    return lines + (_folded("Pictures", _table(["before", "now"], rows)) if rows else [])


def _link(address: str, revision: str, path: str) -> str:
    return f"![{re.sub(r'[^A-Za-z0-9_./-]', ' ', path)}]({address.rstrip('/')}/{revision}/{quote(path)})"
