"""Contents -> one HTML page that needs nothing but itself: no script, no request, pictures as data.

The page forbids itself to load anything from outside (Content-Security-Policy), so that even a mistake of ours, or an
address in a model card, cannot make a browser fetch it.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from src.expressions import COLOURS, EXPRESSIONS
from src.report.contents import Contents, Picture
from src.report.figures import LOWER_IS_BETTER, MEASURES, Figure, Row, decimal, signed
from src.report.funnel import Funnel, Step
from src.report.markup import Markup, disclosure, element, join, table
from src.report.pipeline import draw_pipeline
from src.report.revisions import Change, Differences

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TITLES = {
    "plots/class_distribution.png": "Faces per class after each stage",
    "plots/confusion.png": "Confusion matrix, test",
    "plots/learning_curves.png": "Learning curves",
    "plots/per_class.png": "Precision and recall per class, test",
    "plots/reliability.png": "Reliability: confidence against accuracy, test",
}
_MOST_CHANGES = 400  # rows of a table of differences; a whole metrics file is about 350


def render_page(contents: Contents) -> str:
    """The page as HTML."""
    sections = {
        "results": ("Results", _results(contents)),
        "changes": ("Changes", _changes(contents)),
        "data": ("Data", _data(contents.funnel)),
        "pipeline": ("Pipeline", _pipeline(contents)),
        "plots": ("Plots", _plots(contents)),
        **({"faces": ("Faces", _faces(contents.faces))} if contents.faces is not None else {}),
        "model-card": ("Model card", _card(contents)),
    }
    title = f"Facial expressions, data set {contents.dataset}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))),
    )
    links = [element("a", name, href=f"#{key}") for key, (name, _) in sections.items()]
    body = element(
        "body",
        _header(contents),
        element("nav", element("div", *links), aria_label="Sections"),
        element("main", *(
            element("section", element("h2", name), content, id=key) for key, (name, content) in sections.items()
        )),
        element("footer", "Written by ", _code("make report"), ". Everything on this page is inside the file."),
    )  # fmt: skip
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def _code(text: Any) -> Markup:
    return element("code", text)


def _paragraph(*children: Any, class_: str | None = None) -> Markup:
    return element("p", *children, class_=class_)


def _fact(name: str, *value: Any) -> Markup:
    return element("span", f"{name} ", element("b", *value))


def _header(contents: Contents) -> Markup:
    facts = [_fact("data set", contents.dataset)]
    if contents.revision:
        revision = contents.revision
        facts += [_fact("commit", _code(revision.short)), _fact("of", revision.date.replace("T", " "))]
        facts.append(element("span", revision.subject))
    else:
        facts.append(element("span", "no Git commit"))
    parts = [element("h1", "Facial expressions: report"), element("div", *facts, class_="facts")]
    if contents.uncommitted:
        count = len(contents.uncommitted)
        what = "1 file differs" if count == 1 else f"{count} files differ"
        names = element("ul", *(element("li", _code(name)) for name in contents.uncommitted))
        parts.append(disclosure(f"{what} from this commit", names))
    if contents.dataset == "sample":
        text = "Drawn faces of the bundled sample: the figures show that the pipeline works and say nothing of people."
        parts.append(_paragraph(text, class_="notice"))
    return element("header", *parts)


def _results(contents: Contents) -> Markup:
    if not contents.rows:
        return _paragraph(
            "metrics/evaluate.json is missing. ", _code("dvc repro"), " makes it from your data, ",
            _code("git checkout metrics"), " brings back that of the last commit.", class_="notice",
        )  # fmt: skip
    test = {row.section: row for row in contents.rows if row.split == "test"}
    chance = contents.metrics["evaluate"].get("baseline", {}).get("chance_accuracy")
    tiles = [
        _tile(f"accuracy, {test[section].name}", test[section], "accuracy", chance)
        for section in ("fer2013", "expw")
        if section in test
    ]
    if "all" in test:
        if not tiles:
            tiles = [_tile(f"accuracy, {test['all'].name}", test["all"], "accuracy", chance)]
        tiles += [_tile(f"{MEASURES[key]}, {test['all'].name}", test["all"], key) for key in ("macro_f1", "ece")]
    parts = [element("div", *tiles, class_="tiles")]
    for split in ("test", "validation"):
        rows = [row for row in contents.rows if row.split == split]
        if rows:
            parts += [element("h3", split.capitalize()), _figures_table(rows)]
    parts.append(_explanation(contents, chance))
    parts.append(_per_class(contents))
    return join(*parts)


def _tile(label: str, row: Row, measure: str, chance: float | None = None) -> Markup:
    figure = row.figures[measure]
    parts = [element("div", decimal(figure.value), class_="value"), element("div", label, class_="label")]
    if figure.interval:
        assert figure.low is not None and figure.high is not None
        marks = [element("line", x1=0, x2=100, y1=9, y2=9, class_="axis", vector_effect="non-scaling-stroke")]
        if chance is not None:
            x = f"{100 * chance:.2f}"
            marks.append(element("line", x1=x, x2=x, y1=2, y2=16, class_="chance", vector_effect="non-scaling-stroke"))
        width = f"{100 * (figure.high - figure.low):.2f}"
        marks.append(element("rect", x=f"{100 * figure.low:.2f}", y=3, width=width, height=12, class_="range"))
        marks.append(element("rect", x=f"{100 * figure.value - 0.4:.2f}", y=2, width=0.8, height=14, class_="point"))
        parts.append(element("svg", *marks, viewBox="0 0 100 18", preserveAspectRatio="none", aria_hidden="true"))
        parts.append(element("div", f"95 %: {figure.interval}", class_="label"))
    parts.append(element("div", f"n = {row.n:,}", class_="label"))
    if figure.change:
        parts.append(element("div", _delta(figure.change, measure), class_="label"))
    return element("div", *parts, class_="tile")


def _delta(change: Change, measure: str) -> Markup:
    """The change of a measure, green where it is for the better."""
    if change.difference is None:
        return element("span", "new" if change.old is None else "gone", class_="delta")
    worse = (change.difference > 0) == (measure in LOWER_IS_BETTER)
    verdict = "" if signed(change.difference) == "0" else " worse" if worse else " better"
    return element("span", signed(change.difference), class_=f"delta{verdict}")


def _cell(figure: Figure | None, measure: str) -> Markup:
    if figure is None:
        return Markup("")
    parts: list[Any] = [element("b", decimal(figure.value))]
    if figure.interval:
        parts.append(element("span", f" ({figure.interval})", class_="soft"))
    if figure.change:
        parts += [" ", _delta(figure.change, measure)]
    return join(*parts)


def _figures_table(rows: Sequence[Row]) -> Markup:
    cells = [
        [row.name, f"{row.n:,}", *(_cell(row.figures.get(measure), measure) for measure in MEASURES)] for row in rows
    ]
    return table(["faces", "n", *MEASURES.values()], cells, class_="numbers")


def _explanation(contents: Contents, chance: float | None) -> Markup:
    majority = contents.metrics["evaluate"].get("baseline", {}).get("majority_class_accuracy")
    text = "In brackets 95 % intervals: Wilson's for accuracy, bootstrap for the means over classes. One training run."
    if chance is not None and majority is not None:
        text += (
            f" A blind guess is right in {decimal(chance)} of the test faces (the dashed mark), always naming the most "
            f"frequent class in {decimal(majority)}."
        )
    if any("without copies" in row.name for row in contents.rows):
        text += " Without copies: pictures that have no copy in train as it was before copies were removed."
    if contents.differences.metrics:
        text += " In colour the change; one that is smaller than the interval can be chance."
    parts = [_paragraph(text, class_="soft small")]
    if contents.fer2013_note:
        parts.append(_paragraph(f"* {contents.fer2013_note}", class_="soft small"))
    return join(*parts)


def _per_class(contents: Contents) -> Markup:
    """Precision and recall of each expression on all of test."""
    section = contents.metrics["evaluate"]["test"].get("all", {})
    rows = []
    for name, values in section.get("per_class", {}).items():
        recall = Figure(
            values["recall"], values.get("recall_low"), values.get("recall_high"),
            contents.differences.of_metric(f"test.all.per_class.{name}.recall"),
        )  # fmt: skip
        rows.append([
            name, f"{values['n']:,}", _cell(recall, "recall"), decimal(values["precision"]), decimal(values["f1"]),
        ])  # fmt: skip
    if not rows:
        return Markup("")
    title = "Per class, all of test" + ("*" if contents.fer2013_note else "")
    head = ["expression", "n", "recall", "precision", "F1"]
    return join(element("h3", title), table(head, rows, class_="numbers"))


def _value(value: Any) -> str:
    """A metric or parameter as text."""
    return "absent" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def _changes(contents: Contents) -> Markup:
    differences = contents.differences
    if differences.trouble:
        return _paragraph(differences.trouble, class_="notice")
    assert differences.against
    against = differences.against
    parts = [
        _paragraph(
            "The files here against commit ", _code(against.short), f" of {against.date[:10]}: {against.subject}",
            class_="soft",
        )
    ]  # fmt: skip
    if not (differences.metrics or differences.params or differences.plots):
        parts.append(
            _paragraph(
                "Nothing differs: no metric, no parameter, no plot. To compare with an earlier commit: ",
                _code("python -m src.report --against HEAD~1"), ".",
            )
        )  # fmt: skip
        return join(*parts, _all_params(contents))
    parts += [element("h3", "Parameters"), _params_table(differences)]
    parts += [element("h3", "Metrics"), _metrics_table(differences)]
    if differences.plots:
        parts += [element("h3", "Plots"), element("ul", *(element("li", _code(name)) for name in differences.plots))]
    else:
        parts.append(_paragraph("No plot differs.", class_="soft"))
    return join(*parts, _all_params(contents))


def _params_table(differences: Differences) -> Markup:
    if not differences.params:
        return _paragraph("No parameter differs.", class_="soft")
    rows = [
        [_code(change.name), element("del", _value(change.old)), element("ins", _value(change.new))]
        for change in differences.params
    ]
    return table(["parameter", "before", "now"], rows, class_="changed")


def _metrics_table(differences: Differences) -> Markup:
    if not differences.metrics:
        return _paragraph("No metric differs.", class_="soft")
    shown = differences.metrics[:_MOST_CHANGES]
    rows = [
        [
            join(_code(change.name), element("div", change.file, class_="soft small")),
            _value(change.old),
            _value(change.new),
            "" if change.difference is None else f"{change.difference:+.5g}".replace("-", "−"),
        ]
        for change in shown
    ]
    full = table(["metric", "before", "now", "change"], rows, class_="numbers")
    count = len(differences.metrics)
    title = f"{count} metrics differ" if count > 1 else "1 metric differs"
    if count > len(shown):
        title += f"; the first {len(shown)}, `dvc metrics diff` lists all"
    return full if count <= 12 else disclosure(title, full)


def _all_params(contents: Contents) -> Markup:
    return disclosure("All parameters: params.yaml", element("pre", contents.params_text))


def _data(funnel: Funnel) -> Markup:
    parts = []
    if funnel.missing:
        names = join(*(join(", " if number else "", _code(name)) for number, name in enumerate(funnel.missing)))
        parts.append(
            _paragraph(
                "Missing: ", names, ". ", _code("dvc repro"), " makes them from your data, ",
                _code("git checkout metrics plots"), " brings back those of the last commit.", class_="notice",
            )
        )  # fmt: skip
    if funnel.steps:
        parts += [_legend(), _bars(funnel), element("h3", "Faces per class"), _class_table(funnel)]
    if funnel.losses:
        rows = [[loss.stage, loss.reason, f"{loss.faces:,}"] for loss in funnel.losses]
        parts += [element("h3", "Left out, by reason"), table(["stage", "reason", "faces"], rows)]
    elif not funnel.missing:
        parts.append(_paragraph("No face was skipped or removed.", class_="soft"))
    return join(*parts)


def _legend() -> Markup:
    entries = [element("span", element("i", style=f"background:{COLOURS[name]}"), name) for name in EXPRESSIONS]
    return element("div", *entries, class_="legend")


def _bars(funnel: Funnel) -> Markup:
    """A bar per step, its parts the classes; what the stage left out stands below it."""
    steps = list(funnel.steps)
    after_split = next((index + 1 for index, step in enumerate(steps) if step.stage == "split"), len(steps))
    steps[after_split:after_split] = funnel.held_out
    most = max((step.total for step in steps), default=0) or 1
    drawn = []
    last_of_stage = {step.stage: step for step in steps}
    for step in steps:
        losses = [loss for loss in funnel.losses if loss.stage == step.stage and last_of_stage[step.stage] is step]
        below = "left out: " + ", ".join(f"{loss.faces:,} {loss.reason}" for loss in losses) if losses else ""
        drawn.append(_bar(step, most, below))
    return element("div", *drawn)


def _bar(step: Step, most: int, below: str) -> Markup:
    segments = [
        element("span", style=f"flex:{faces} 0 0;background:{COLOURS[name]}", title=f"{name}: {faces:,}")
        for name, faces in step.faces.items()
        if faces
    ]
    track = element("div", *segments, class_="track", style=f"width:{100 * step.total / most:.2f}%")
    parts = [element("div", step.title), track, element("div", f"{step.total:,}", class_="total")]
    if below:
        parts.append(element("div", below, class_="lost"))
    return element("div", *parts, class_="step")


def _class_table(funnel: Funnel) -> Markup:
    rows = [
        [step.title, f"{step.total:,}", *(f"{step.faces[name]:,}" for name in EXPRESSIONS)]
        for step in [*funnel.steps, *funnel.held_out]
    ]
    return table(["faces", "all", *EXPRESSIONS], rows, class_="numbers")


def _pipeline(contents: Contents) -> Markup:
    def listed(paths: Sequence[str]) -> Markup:
        return join(*(join(element("br") if number else "", _code(path)) for number, path in enumerate(paths)))

    rows = [
        [stage.name, listed(stage.inputs), listed(stage.outputs), listed(stage.params)] for stage in contents.stages
    ]
    text = _paragraph(
        "Each box is a stage of ", _code("dvc.yaml"), ". In it: what comes from outside, and what other stages read; a "
        "line leads from an output down to the stages that read it, a dashed one where it is for charts only.",
        class_="soft",
    )  # fmt: skip
    details = disclosure(
        "Everything each stage reads and writes", table(["stage", "reads", "writes", "parameters"], rows)
    )
    purposes = [
        join(element("dt", stage.name), element("dd", contents.purposes.get(stage.name, "")))
        for stage in contents.stages
    ]
    columns = element(
        "div", draw_pipeline(contents.stages), element("dl", *purposes, class_="stages"), class_="columns"
    )
    return join(text, columns, details)


def _data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _figure(caption: Any, content: bytes, description: str) -> Markup:
    picture = element("img", src=_data_uri(content), alt=description)
    return element("figure", element("figcaption", caption), picture)


def _plots(contents: Contents) -> Markup:
    if not contents.plots:
        return _paragraph(
            "There is no picture in plots/. ", _code("dvc repro"), " draws them, ", _code("git checkout plots"),
            " brings back those of the last commit.", class_="notice",
        )  # fmt: skip
    figures = []
    for picture in contents.plots:
        title = _TITLES.get(picture.path, picture.path)
        figures.append(_figure(title, picture.content, title))
        if picture.before is not None:
            assert contents.differences.against
            caption = f"{title}, before ({contents.differences.against.short})"
            figures.append(_figure(caption, picture.before, caption))
    interactive = _paragraph(
        "The interactive versions load a drawing library from the internet, so they are not in here: ",
        _code("dvc plots show"), " and ", _code("dvc plots diff"), " write them.", class_="soft small",
    )  # fmt: skip
    return join(element("div", *figures, class_="pictures"), interactive)


def _faces(faces: Sequence[Picture] | None) -> Markup:
    if not faces:
        return _paragraph(
            "There is no picture in plots/faces/. ", _code("dvc repro"), " draws them, ",
            _code("dvc pull plots/faces/copies.png"), " and the like fetch them from your remote.", class_="notice",
        )  # fmt: skip
    warning = _paragraph(
        "Pictures of people. Keep this page to those who may see the data; without ", _code("--faces"),
        " they are left out.", class_="notice",
    )  # fmt: skip
    figures = [_figure(picture.path, picture.content, picture.path) for picture in faces]
    return join(warning, element("div", *figures, class_="pictures"))


def _card(contents: Contents) -> Markup:
    if not contents.card:
        return _paragraph(
            "There is no model card. ", _code("dvc repro"), " writes models/model_card.md, ", _code("dvc pull"),
            " fetches it, ", _code("git checkout pretrained"), " brings back that of the released model.",
            class_="notice",
        )  # fmt: skip
    origin = "the current model" if contents.card_path.startswith("models/") else "the released model"
    return join(
        _paragraph(f"Of {origin}, from ", _code(contents.card_path), ".", class_="soft"), render_markdown(contents.card)
    )


def render_markdown(text: str) -> Markup:
    """CommonMark with tables as HTML: headings two levels lower, HTML in it shown as text, no pictures."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    rendered = parser.renderer.render(tokens, parser.options, {})
    scrolling = rendered.replace("<table>", '<div class="scroll" tabindex="0"><table>')
    return Markup(scrolling.replace("</table>", "</table></div>"))
