"""What the API takes and gives, and what the JSON of the live program (`--json`, `--summary x.json`) consists of."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Expression = Literal["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "uncertain"]
Probability = Annotated[float, Field(ge=0, le=1)]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
ResultName = Literal["annotated.mp4", "faces.csv", "faces.json", "people.json", "summary.png"]


class _Model(BaseModel):
    # "model_sha256" is a name of ours, not of pydantic.
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class FaceRow(_Model):
    """One face of one frame; a line of `--json` after the first. The box may reach outside the frame."""

    time_s: float = Field(description="seconds since the beginning of the source; 0 for a picture")
    frame: int = Field(ge=0, description="number of the frame, from 0")
    face_id: int = Field(ge=1, description="stays with a person from frame to frame")
    x: float = Field(description="left edge of the box, pixels of the frame")
    y: float = Field(description="upper edge, pixels")
    width: float = Field(gt=0, description="pixels")
    height: float = Field(gt=0, description="pixels")
    expression: Expression = Field(description='"uncertain" where no probability is high enough')
    confidence: Probability = Field(description="of the expression, or of the most probable one if uncertain")
    angry: Probability
    disgust: Probability
    fear: Probability
    happy: Probability
    sad: Probability
    surprise: Probability
    neutral: Probability
    source: str


class Run(_Model):
    """What is said of a run; with `expressions` the first line of `--json`."""

    schema_name: Literal["facial-expressions"] = Field(alias="schema")
    version: Literal[1]
    source: str
    model: str
    model_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    detector: str
    uncertain_below: Probability
    frames_per_second: float | None = Field(description="of a video; null where there is none")


class Head(Run):
    """The first line of `--json`."""

    expressions: list[str]


class Picture(Head):
    """The faces of one picture, from left to right."""

    width: int = Field(description="of the upright picture, pixels")
    height: int
    faces: list[FaceRow]
    hidden: list[Box] = Field(description="boxes to blur: of faces, and of what may be one")
    milliseconds: float = Field(description="spent on recognition")

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "schema": "facial-expressions", "version": 1, "source": "picture", "model": "model.onnx",
                "model_sha256": "0" * 64, "detector": "YuNet", "uncertain_below": 0.54, "frames_per_second": None,
                "expressions": ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"],
                "width": 640, "height": 400, "milliseconds": 21.5, "hidden": [[190.3, 70.1, 262.0, 262.0]],
                "faces": [{
                    "time_s": 0.0, "frame": 0, "face_id": 1, "x": 190.3, "y": 70.1, "width": 262.0, "height": 262.0,
                    "expression": "happy", "confidence": 0.93, "angry": 0.01, "disgust": 0.01, "fear": 0.01,
                    "happy": 0.93, "sad": 0.01, "surprise": 0.01, "neutral": 0.02, "source": "picture",
                }],
            }
        }
    )  # fmt: skip


class Example(_Model):
    """A drawn picture and what was found in it when the server started."""

    url: str
    result: Picture


class Person(_Model):
    """One face of a video: when it was seen, and the share of that time for each expression."""

    source: str
    face_id: int
    first_s: float
    last_s: float
    seconds: float
    shares: dict[Expression, Probability]


class People(Run):
    """`people.json`, and what `--summary x.json` writes."""

    people: list[Person]


class Video(_Model):
    """Where a video stands. Results are there from `done` on, for ten minutes or until they are deleted."""

    id: str
    state: Literal["waiting", "running", "done", "failed"]
    progress: Probability
    frames: int
    error: str | None = Field(description="what is wrong, where the state is failed")
    note: str | None = Field(description="what should be known of the results")
    results: list[ResultName]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "q0Zr3yJm6s1c8nVx", "state": "running", "progress": 0.42, "frames": 420,
                "error": None, "note": None, "results": [],
            }
        }
    )  # fmt: skip


class LiveSettings(_Model):
    """The first message of a live visitor, as text; may be sent again. Frames follow as binary messages: 8 bytes of
    time stamp (seconds, float64, little-endian, rising) and a JPEG."""

    token: str | None = Field(None, description="where the server asks for one")
    blur: bool = Field(False, description="search every frame, so that `hidden` misses none that can be found")


class LiveFrame(_Model):
    """The answer to a frame. The next frame may be sent once it is there."""

    time_s: float
    frame: int
    width: int
    height: int
    faces: list[FaceRow]
    hidden: list[Box] = Field(description="boxes to blur")
    milliseconds: float


class Figure(_Model):
    """A line of the model card's results: accuracy on a part of the test faces."""

    labels: str
    n: str
    accuracy: str


class Limits(_Model):
    """What is taken, at most."""

    picture_bytes: int
    picture_pixels: int
    video_bytes: int
    video_seconds: int
    frame_bytes: int
    visitors: int


class ModelInfo(_Model):
    """What recognizes here, how good it is, and in which colours it is shown."""

    model: str
    model_sha256: str
    detector: str
    uncertain_below: Probability
    expressions: list[str]
    colours: dict[str, str]
    figures: list[Figure]
    limits: Limits


class Health(_Model):
    """The server answers, and its model recognized a picture when it started."""

    status: Literal["ok"]
    visitors: int
    videos: int


class Problem(_Model):
    """One sentence: what is wrong and what to do."""

    error: str
