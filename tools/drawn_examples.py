"""Draw the pictures that the page shows on opening: seven drawn people, one for each expression.

python -m tools.drawn_examples            # src/web/static/examples/*.jpg, a second
"""

from pathlib import Path

import cv2
import numpy as np

from tools.drawn_faces import draw_photo

FOLDER = Path(__file__).resolve().parents[1] / "src/web/static/examples"
PICTURES = {"one": ("happy",), "three": ("surprise", "angry", "sad"), "more": ("neutral", "fear", "disgust")}


def main(seed: int = 7) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, expressions in PICTURES.items():
        side = 260 if len(expressions) == 1 else 165
        step = 640 / len(expressions)
        boxes = [((index + 0.5) * step - side / 2, 200 - side / 2, side, side) for index in range(len(expressions))]
        photo = draw_photo(np.random.default_rng(seed), list(zip(expressions, boxes, strict=True)), 640, 400)
        cv2.imwrite(str(FOLDER / f"{name}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
