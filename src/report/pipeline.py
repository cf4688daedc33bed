"""dvc.yaml as a drawing: one box per stage from top to bottom, one line per output down to the stages that read it.

In: the text of dvc.yaml and the parameters that it refers to as `${name}`. Out: `read_stages` gives the stages, and
`draw_pipeline` an SVG that is 380 units wide, so that it can be read on a phone. Its colours are classes of page.css.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml

from src.errors import UserError
from src.report.markup import Markup, element

WIDTH = 380  # units; one is a CSS pixel where the page is wide enough
_BOX_LEFT, _BOX_RIGHT = 1, 268
_HEADING, _ROW, _GAP = 30, 20, 18  # heights: name of a stage, one input or output, between two boxes
_FIRST_LANE, _LANE = 288, 15  # where the innermost line runs, and the distance to the next
_ENTRY = 9  # least distance between two lines that come into a stage
_COLOURS = 6  # page.css: .lane-0 to .lane-5, and .lane-plots for what goes into charts only


@dataclass(frozen=True)
class Stage:
    name: str
    inputs: tuple[str, ...]  # what it reads that is neither code nor a parameter
    outputs: tuple[str, ...]  # data, models, tables and pictures that it writes, metrics included
    params: tuple[str, ...]


@dataclass(frozen=True)
class Flow:
    """Outputs that go the same way, and the stages that read them."""

    outputs: tuple[tuple[str, str], ...]  # (stage, path)
    readers: tuple[str, ...]


def _paths(entries: Any, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of deps or outs, which are text or a mapping of one path to its settings."""
    names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries or []]
    return tuple(re.sub(r"\$\{(\w+)\}", lambda match: str(parameters.get(match[1], match[0])), name) for name in names)


def _is_code(path: str) -> bool:
    return path.endswith(".py")


def read_stages(text: str, parameters: Mapping[str, Any]) -> list[Stage]:
    """The stages in an order in which each follows those it reads from. Raises UserError where that cannot be."""
    try:
        content = yaml.safe_load(text)
        stages = [
            Stage(
                str(name),
                tuple(path for path in _paths(entry.get("deps"), parameters) if not _is_code(path)),
                _paths([*entry.get("outs", []), *entry.get("plots", []), *entry.get("metrics", [])], parameters),
                tuple(str(key) for key in entry.get("params", [])),
            )
            for name, entry in content["stages"].items()
        ]
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, StopIteration) as error:
        raise UserError(
            f"dvc.yaml cannot be read as stages ({' '.join(str(error).split())}). `dvc dag` says where it is wrong; "
            "`git checkout dvc.yaml` restores it."
        ) from error
    return _in_order(stages)


def _in_order(stages: list[Stage]) -> list[Stage]:
    """Sources first; stages that do not wait for each other stay in the order of the file."""
    ordered: list[Stage] = []
    waiting = list(stages)
    while waiting:
        unwritten = {path for stage in waiting for path in stage.outputs}
        ready = next((stage for stage in waiting if not unwritten & set(stage.inputs)), None)
        if ready is None:
            names = ", ".join(stage.name for stage in waiting)
            raise UserError(f"dvc.yaml: each of these stages waits for another one: {names}. Break the circle.")
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def find_flows(stages: Sequence[Stage]) -> list[Flow]:
    """Outputs that another stage reads. Tables and pictures in plots/ with the same readers share one flow."""
    readers = {
        path: tuple(stage.name for stage in stages if path in stage.inputs)
        for stage in stages
        for path in stage.outputs
    }
    together: dict[tuple[str, tuple[str, ...]], list[tuple[str, str]]] = {}
    for stage in stages:
        for path in stage.outputs:
            if readers[path]:
                label = "plots/" if path.startswith("plots/") else path
                together.setdefault((label, readers[path]), []).append((stage.name, path))
    return [Flow(tuple(outputs), names) for (_, names), outputs in together.items()]


def _assign_lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """A lane for each span of y; no two that overlap share one, and short ones are innermost."""
    lanes = [0] * len(spans)
    taken: list[list[tuple[float, float]]] = []
    for index in sorted(range(len(spans)), key=lambda index: spans[index][1] - spans[index][0]):
        top, bottom = spans[index]
        free = (
            number
            for number, others in enumerate(taken)
            if all(bottom + 4 < low or high + 4 < top for low, high in others)
        )
        lanes[index] = next(free, len(taken))
        if lanes[index] == len(taken):
            taken.append([])
        taken[lanes[index]].append((top, bottom))
    return lanes


def draw_pipeline(stages: Sequence[Stage]) -> Markup:
    """The stages as SVG: name, then what comes from outside, then what others read; lines lead to the readers."""
    flows = find_flows(stages)
    flowing = {path for flow in flows for _, path in flow.outputs}
    written = {path for stage in stages for path in stage.outputs}

    headings: dict[str, tuple[float, float]] = {}  # y and height of the part of a box where lines come in
    output_y: dict[str, float] = {}  # y of the row of an output
    boxes: list[Markup] = []
    y: float = 1
    for stage in stages:
        rows = [(path, "outside") for path in stage.inputs if path not in written]
        rows += [(path, "flow") for path in stage.outputs if path in flowing]
        entering = sum(stage.name in flow.readers for flow in flows)
        heading = max(_HEADING, _ENTRY * (entering + 1))
        height = heading + _ROW * len(rows) + (6 if rows else 0)
        headings[stage.name] = (y, heading)
        texts = [element("text", stage.name, x=_BOX_LEFT + 12, y=y + heading / 2 + 5, class_="stage-name")]
        for number, (path, kind) in enumerate(rows):
            row_y = y + heading + _ROW * number + 8
            if kind == "flow":
                output_y[path] = row_y
            prefix = "from " if kind == "outside" else ""
            texts.append(element("text", prefix + _shortened(path), x=_BOX_LEFT + 12, y=row_y + 4, class_=kind))
        box = element("rect", x=_BOX_LEFT, y=y, width=_BOX_RIGHT - _BOX_LEFT, height=height, rx=8, class_="stage-box")
        boxes.append(element("g", box, *texts))
        y += height + _GAP

    title = element("title", "Stages of the pipeline and what flows between them")
    order = "; ".join(f"{first.name} before {second.name}" for first, second in pairwise(stages))
    return element(
        "svg", title, element("desc", order), *boxes, *_draw_flows(flows, headings, output_y),
        viewBox=f"0 0 {WIDTH} {y - _GAP + 1:g}", role="img", class_="dag",
    )  # fmt: skip


def _draw_flows(
    flows: Sequence[Flow], headings: Mapping[str, tuple[float, float]], output_y: Mapping[str, float]
) -> list[Markup]:
    """A line per flow: out of the rows of its outputs, down its lane, into each reader at a height of its own."""
    spans = [
        (
            min(output_y[path] for _, path in flow.outputs),
            max(sum(headings[reader]) for reader in flow.readers),
        )
        for flow in flows
    ]
    lanes = _assign_lanes(spans)
    # Inner lines come in above outer ones, and so do not cross them.
    inner_first = sorted(range(len(flows)), key=lambda number: lanes[number])
    entry_y: dict[tuple[int, str], float] = {}
    for reader, (top, height) in headings.items():
        entering = [number for number in inner_first if reader in flows[number].readers]
        for place, number in enumerate(entering, start=1):
            entry_y[number, reader] = top + height * place / (len(entering) + 1)

    drawn = []
    colours = 0
    for number, flow in enumerate(flows):
        x = min(_FIRST_LANE + _LANE * lanes[number], WIDTH - 4)
        starts = [output_y[path] for _, path in flow.outputs]
        ends = [entry_y[number, reader] for reader in flow.readers]
        steps = [f"M{x} {min(starts):g}V{max(*starts, *ends):g}"]
        steps += [f"M{_BOX_RIGHT} {start:g}H{x}" for start in starts]
        steps += [f"M{x} {end:g}H{_BOX_RIGHT + 6}" for end in ends]
        dots = [element("circle", cx=_BOX_RIGHT, cy=f"{start:g}", r=3.5) for start in starts]
        heads = [element("path", d=f"M{_BOX_RIGHT} {end:g}l8 -4v8z", class_="head") for end in ends]
        names = ", ".join(path for _, path in flow.outputs)
        tip = element("title", f"{names} → {', '.join(flow.readers)}")
        line = element("path", d="".join(steps), class_="line")
        if all(path.startswith("plots/") for _, path in flow.outputs):
            colour = "lane-plots"
        else:
            colour, colours = f"lane-{colours % _COLOURS}", colours + 1
        drawn.append(element("g", tip, line, *dots, *heads, class_=colour))
    return drawn


def _shortened(path: str, most: int = 36) -> str:
    """The path, or its end where it is too long for a box."""
    return path if len(path) <= most else "…" + path[1 - most :]
