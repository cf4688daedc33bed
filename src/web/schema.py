"""What the API takes and gives, and what the JSON of the live program (`--json`, `--summary x.json`) consists of."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from src.expressions import COLOURS, EXPRESSIONS
from src.recognition.faces import UNCERTAIN
from src.web import limits

Expression = Literal["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "uncertain"]
Probability = Annotated[float, Field(ge=0, le=1)]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
ResultName = Literal["annotated.mp4", "faces.csv", "faces.json", "people.json", "summary.png"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


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


class Seen(_Model):
    """What was found in a picture or frame."""

    width: int = Field(description="of the upright picture, pixels")
    height: int
    faces: list[FaceRow]
    hidden: list[Box] = Field(description="boxes to blur: of faces, and of what may be one")
    milliseconds: float = Field(description="spent on recognition")


class Picture(Seen, Head):
    """The faces of one picture, from left to right."""


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
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    progress: Probability = 0.0
    frames: int = 0
    error: str | None = Field(default=None, description="what is wrong, where the state is failed")
    note: str | None = Field(default=None, description="what should be known of the results")
    results: list[ResultName] = []


class LiveSettings(_Model):
    """The first message of a live visitor, as text; may be sent again. Frames follow as binary messages: 8 bytes of
    time stamp (seconds, float64, little-endian, rising) and a JPEG."""

    token: str | None = Field(None, description="where the server asks for one")
    blur: bool = Field(False, description="search every frame, so that `hidden` misses none that can be found")


class LiveFrame(Seen):
    """The answer to a frame. The next frame may be sent once it is there."""

    time_s: float
    frame: int


class Figure(_Model):
    """A line of the model card's results: accuracy on a part of the test faces."""

    labels: str
    n: str
    accuracy: str


class Limits(_Model):
    """What is taken, at most."""

    visitors: int
    picture_bytes: int = limits.PICTURE_BYTES
    picture_pixels: int = limits.PICTURE_PIXELS
    video_bytes: int = limits.VIDEO_BYTES
    video_seconds: int = limits.VIDEO_SECONDS
    frame_bytes: int = limits.FRAME_BYTES - 8


class ModelInfo(_Model):
    """What recognizes here, how good it is, and in which colours it is shown."""

    model: str
    model_sha256: str
    detector: str
    uncertain_below: Probability
    expressions: list[str] = list(EXPRESSIONS)
    colours: dict[str, str] = {**COLOURS, UNCERTAIN: "#e1e1e1"}
    figures: list[Figure]
    limits: Limits

    model_config = ConfigDict(extra="ignore")


class Health(_Model):
    """The server answers, and its model recognized a picture when it started."""

    status: Literal["ok"] = "ok"
    visitors: int
    videos: int


class Problem(_Model):
    """One sentence: what is wrong and what to do."""

    error: str
