"""A picture and a table of a whole run: who showed what when, and for which share of the time."""

import numpy as np

from src.expressions import EXPRESSIONS
from src.realtime.drawing import EXPRESSION_COLOURS, Colour, draw_panel, draw_text, text_width
from src.realtime.timeline import Timeline
from src.recognition.faces import UNCERTAIN

_WIDTH = 1400  # pixels
_LEFT, _RIGHT, _SHARES_LEFT, _SHARES_RIGHT = 110, 860, 920, 1360
_ROW, _HEAD, _FOOT = 46, 96, 110
_BACKGROUND: Colour = (255, 255, 255)
_TEXT: Colour = (50, 46, 44)
_FAINT: Colour = (140, 136, 134)
_TRACK: Colour = (238, 236, 235)
_COLOURS = {**EXPRESSION_COLOURS, UNCERTAIN: (210, 208, 206)}
_MOST_FACES = 20


def people_table(timelines: dict[str, Timeline]) -> list[dict[str, object]]:
    """A row per person: source, face_id, first_s, last_s, seconds in view, and the share of each expression."""
    return [
        {
            "source": name,
            "face_id": number,
            "first_s": round(segments[0].start_s, 3),
            "last_s": round(segments[-1].end_s, 3),
            "seconds": round(timeline.seconds(number), 3),
            "shares": {key: round(share, 4) for key, share in timeline.shares(number).items()},
        }
        for name, timeline in timelines.items()
        for number, segments in sorted(timeline.faces.items())
    ]


def draw_summary(timelines: dict[str, Timeline], title: str) -> np.ndarray:
    """uint8 `(H, 1400, 3)` BGR. timelines: by source; people are never the same across sources.

    Shows the faces seen longest, at most twenty, in the order of their sources and ids.
    """
    people = [(name, number) for name, timeline in timelines.items() for number in sorted(timeline.faces)]
    longest = sorted(people, key=lambda person: -timelines[person[0]].seconds(person[1]))[:_MOST_FACES]
    rows = [person for person in people if person in longest]
    height = _HEAD + max(1, len(rows)) * _ROW + _FOOT
    page = np.full((height, _WIDTH, 3), _BACKGROUND, np.uint8)
    length_s = max((timeline.length_s for timeline in timelines.values()), default=0.0)
    draw_text(page, f"Expressions in {title}", 40, 28, 15, _TEXT, bold=True)
    shown = "" if len(people) <= _MOST_FACES else f", the {_MOST_FACES} seen longest"
    lengths = f"{_clock(length_s)}, " if len(timelines) == 1 and length_s else ""
    sources = f" in {len(timelines)} sources" if len(timelines) > 1 else ""
    draw_text(page, f"{lengths}{len(people)} face{'s' * (len(people) != 1)}{sources}{shown}", 40, 58, 10, _FAINT)
    draw_text(page, "share of the time in view" if length_s else "expression", _SHARES_LEFT, 76, 9, _FAINT)
    if not rows:
        draw_text(page, "no face was found", _LEFT, _HEAD + 14, 12, _FAINT)
    for index, (name, number) in enumerate(rows):
        top, timeline = _HEAD + index * _ROW, timelines[name]
        draw_text(page, f"face {number}", 40, top + 10, 11, _TEXT)
        if len(timelines) > 1:
            draw_text(page, name[-40:], _LEFT, top + 33, 7, _FAINT)
        draw_panel(page, _LEFT, top, _RIGHT - _LEFT, 30, colour=_TRACK, opacity=1)
        start_s = timeline.start_s or 0.0
        for segment in timeline.faces[number]:
            left, right = (
                _LEFT + round((_RIGHT - _LEFT) * (time_s - start_s) / max(length_s, 1e-3))
                for time_s in (segment.start_s, segment.end_s)
            )
            if not timeline.length_s:  # a picture
                right = _RIGHT
            left = min(left, _RIGHT - 1)
            draw_panel(page, left, top, max(1, right - left), 30, colour=_COLOURS[segment.expression], opacity=1)
        _draw_shares(page, timeline.shares(number), top)
    bottom = _HEAD + max(1, len(rows)) * _ROW
    for step in range(6 if length_s else 0):
        x = _LEFT + round((_RIGHT - _LEFT) * step / 5)
        label = _clock(length_s * step / 5)
        draw_text(page, label, x - text_width(label, 9) // 2, bottom, 9, _FAINT)
    x = 40
    for name in (*EXPRESSIONS, UNCERTAIN):
        draw_panel(page, x, height - 46, 16, 16, radius=3, colour=_COLOURS[name], opacity=1)
        draw_text(page, name, x + 24, height - 43, 10, _TEXT)
        x += 24 + text_width(name, 10) + 36
    return page


def _draw_shares(page: np.ndarray, shares: dict[str, float], top: int) -> None:
    """A bar of the shares in the classes' order, and the two largest in words."""
    left = float(_SHARES_LEFT)
    for name in (*EXPRESSIONS, UNCERTAIN):
        width = (_SHARES_RIGHT - _SHARES_LEFT) * shares.get(name, 0.0)
        draw_panel(page, round(left), top, round(left + width) - round(left), 14, colour=_COLOURS[name], opacity=1)
        left += width
    largest = [(name, share) for name, share in list(shares.items())[:4] if share >= 0.005]
    words = ",  ".join(f"{name} {100 * share:.0f} %" for name, share in largest)
    draw_text(page, words, _SHARES_LEFT, top + 20, 9, _TEXT)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
