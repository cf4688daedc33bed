"""The server of the page: same answers as the live program, one visitor apart from the other, what it asks and says."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from src.recognition import ExpressionRecognizer
from src.recognition.detection import HaarDetector
from src.web.__main__ import main as web_main
from src.web.guard import Access
from src.web.schema import FaceRow, Head, People, Picture
from tests.conftest import ROOT
from tests.realtime_fixtures import run_here, write_clip
from tests.test_dependencies import _names
from tests.web_fixtures import (
    EXAMPLES,
    Server,
    finish,
    jpeg,
    live,
    long_clip,
    one_face,
    read_example,
    run_server,
    send_frame,
    wait_for,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("server"), "--visitors", "3") as running:
        yield running


def test_smoke(server: Server) -> None:
    """What a stranger asks first: the page, whether it is well, what is in a picture."""
    assert server.get("/health").json() == {"status": "ok", "visitors": 0, "videos": 0}
    for path in ("/", "/health"):
        assert requests.head(server.url + path, timeout=30).status_code == 200, "what those that watch a server ask"
    page = server.get("/")
    assert "<h1>Facial expressions</h1>" in page.text
    answer = server.post("/api/pictures", (EXAMPLES / "three.jpg").read_bytes())
    assert answer.status_code == 200
    faces = answer.json()["faces"]
    expected = ExpressionRecognizer(detector=HaarDetector()).recognize(read_example("three.jpg"))
    assert [face["expression"] for face in faces] == [face.expression for face in expected]
    for face, same in zip(faces, expected, strict=True):
        assert (face["x"], face["width"]) == (pytest.approx(same.box[0], abs=0.1), pytest.approx(same.box[2], abs=0.1))
        assert face["confidence"] == pytest.approx(same.confidence, abs=1e-3)
    assert [entry["result"]["faces"] for entry in server.get("/api/examples").json()][1] == faces


def test_a_form_is_told_from_a_file(server: Server) -> None:
    picture = (EXAMPLES / "one.jpg").read_bytes()
    for address in ("/api/pictures", "/api/videos"):
        answer = requests.post(server.url + address, files={"file": picture}, timeout=30)
        assert (answer.status_code, "the bytes of the file" in answer.json()["error"]) == (415, True)


def test_model_and_figures(server: Server) -> None:
    about = server.get("/api/model").json()
    card = (ROOT / "pretrained/model_card.md").read_text(encoding="utf-8")
    assert about["figures"]
    for figure in about["figures"]:
        assert f"| test | {figure['labels']} | {figure['n']} | {figure['accuracy']} |" in card
    page = server.get("/card").text
    assert "<table>" in page and "Intended use" in page and "<img" not in page


def test_every_answer_has_the_headers(server: Server) -> None:
    for path in ("/", "/static/main.js", "/api/model", "/health", "/openapi.json", "/nowhere", "/card"):
        headers = server.get(path).headers
        assert headers["cache-control"] == "no-store", path
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers and "access-control-allow-origin" not in headers


def test_the_page_names_nothing_elsewhere() -> None:
    """No script, style, font or picture of another host, and none in the page itself: the policy would refuse it."""
    for path in (ROOT / "src/web/static").rglob("*.*"):
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text(encoding="utf-8")
            assert "//" not in text.replace("://${location.host}", "") or path.suffix == ".js", path
            assert not any(mark in text for mark in ("http://", "https://", " style=", "onclick=", "innerHTML")), path


def test_openapi_has_models_and_an_example(server: Server) -> None:
    api = server.get("/openapi.json").json()
    assert {"/api/pictures", "/api/videos", "/api/videos/{number}"} <= set(api["paths"])
    example = api["paths"]["/api/pictures"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    Picture.model_validate({**example, "frames_per_second": None})  # FastAPI leaves null out
    assert len(example["faces"]) == 1


def test_json_of_the_live_program_is_the_schema(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", seconds=0.5)
    outputs = ("--json", tmp_path / "out.json", "--summary", tmp_path / "people.json")
    done = run_here("--source", tmp_path / "clip.mp4", "--headless", "--detector", "haar", *outputs)
    assert done.code == 0, done.stderr
    head, *rows = (tmp_path / "out.json").read_text(encoding="utf-8").splitlines()
    Head.model_validate_json(head)
    assert len([FaceRow.model_validate_json(row) for row in rows]) > 5
    people = People.model_validate_json((tmp_path / "people.json").read_text(encoding="utf-8"))
    assert len(people.people) == 1


def test_a_video_gives_what_the_live_program_gives(server: Server, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=1, num_faces=2)
    added = server.post("/api/videos", clip.read_bytes())
    assert added.status_code == 202
    number = added.json()["id"]
    state = finish(server, number)
    assert (state["state"], state["progress"], state["frames"]) == ("done", 1.0, 25), state
    assert set(state["results"]) == {"annotated.mp4", "faces.csv", "faces.json", "people.json", "summary.png"}
    table = server.get(f"/api/videos/{number}/faces.csv")
    assert table.headers["content-disposition"] == 'attachment; filename="faces.csv"'
    run_here("--source", clip, "--headless", "--detector", "haar", "--csv", tmp_path / "same.csv")
    with (tmp_path / "same.csv").open(newline="") as file:
        expected = [{**row, "source": "video"} for row in csv.DictReader(file)]
    assert list(csv.DictReader(table.text.splitlines())) == expected
    assert server.get(f"/api/videos/{number}/annotated.mp4").content[4:8] == b"ftyp"
    assert server.left()
    assert not [path for path in server.left() if path.name == "video"]  # gone when it has been looked at
    assert server.delete(number) == 204
    assert server.left() == []
    assert server.get(f"/api/videos/{number}").status_code == 404


@pytest.mark.slow
def test_a_video_can_be_stopped(server: Server, tmp_path: Path) -> None:
    clip = long_clip(tmp_path / "long.mp4")
    number = server.post("/api/videos", clip).json()["id"]
    wait_for(lambda: server.get(f"/api/videos/{number}").json()["frames"] > 0)
    assert server.delete(number) == 204
    wait_for(lambda: not children(server))
    assert server.left() == []


def children(server: Server) -> list[int]:
    return [child.pid for child in psutil.Process(server.process.pid).children()]


def test_two_visitors_are_never_mixed_up(server: Server) -> None:
    """Frames in turn, one face on the left and one on the right: ids, boxes and times stay with their visitor."""
    left, right = jpeg(one_face(True)), jpeg(one_face(False))
    with live(server) as one, live(server, blur=True) as other:
        for number in range(12):
            first = send_frame(one, 0.1 * number, left)
            second = send_frame(other, 100 + 0.1 * number, right)
            assert (first["time_s"], first["frame"]) == (0.1 * number, number)
            assert (second["time_s"], second["frame"]) == (100 + 0.1 * number, number)
        for answer, low in ((first, 0), (second, 160)):
            (face,) = answer["faces"]
            FaceRow.model_validate(face)
            assert face["face_id"] == 1
            assert low < face["x"] + face["width"] / 2 < low + 160
            assert len(answer["hidden"]) == 1
        wait_for(lambda: server.count("visitors") == 2)
    wait_for(lambda: server.count("visitors") == 0)


def test_when_full_new_visitors_are_refused_and_old_ones_go_on(server: Server) -> None:
    frame = jpeg(one_face(True))
    with live(server) as one, live(server) as two, live(server) as three:
        for socket in (one, two, three):
            send_frame(socket, 0, frame)
        with live(server) as fourth:
            assert json.loads(fourth.recv(10)) == {"error": "All 3 places are taken. The page tries again by itself."}
        assert send_frame(one, 1, frame)["faces"]
    wait_for(lambda: server.count("visitors") == 0)
    with live(server) as again:
        assert send_frame(again, 0, frame)["frame"] == 0


def test_the_client_in_the_docs(server: Server) -> None:
    page = (ROOT / "docs/page.md").read_text(encoding="utf-8")
    (client,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    command = [sys.executable, "-c", client, server.url, str(EXAMPLES / "one.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *live_answers = done.stdout.splitlines()
    assert first.startswith("[('happy', 0.")
    assert len(live_answers) == 3 and "'face_id': 1" in live_answers[-1]


def test_metrics(server: Server) -> None:
    server.post("/api/pictures", (EXAMPLES / "one.jpg").read_bytes())
    text = server.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['facial_expressions_seconds_count{kind="picture"}']) >= 1
    assert float(values["process_resident_memory_bytes"]) > 50e6
    assert values["facial_expressions_visitors"] == "0.0"


@pytest.mark.parametrize(
    ("access", "host", "known"),
    [
        (Access(), "127.0.0.1:8000", True),
        (Access(), "localhost", True),
        (Access(), "[::1]:8000", True),
        (Access(), "evil.example", False),
        (Access(), "127.0.0.1.evil.example", False),
        (Access(public="faces.example.org"), "faces.example.org", True),
        (Access(public="faces.example.org"), "other.example.org", False),
        (Access(token="x" * 20), "192.0.2.1:8000", True),
    ],
)
def test_names_by_which_it_answers(access: Access, host: str, known: bool) -> None:
    assert access.knows_host(host) is known


def test_elsewhere_it_asks_for_a_token(tmp_path: Path) -> None:
    content = (EXAMPLES / "one.jpg").read_bytes()
    with run_server(tmp_path, "--host", "0.0.0.0") as server:
        address, _, token = server.said.strip().removeprefix("listening on ").partition("#token=")
        assert address.startswith("http://0.0.0.0:") and len(token) >= 32
        assert server.get("/").status_code == server.get("/health").status_code == 200
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
            assert server.post("/api/pictures", content, headers=header).status_code == 401
            assert server.get("/metrics", headers=header).status_code == 401
        right = {"Authorization": f"Bearer {token}"}
        assert server.post("/api/pictures", content, headers=right).status_code == 200
        with live(server, token="wrong") as socket:
            assert "token" in json.loads(socket.recv(10))["error"]
        with live(server, token=token) as socket:
            assert send_frame(socket, 0, jpeg(one_face(True)))["faces"]
    assert token not in server.log.read_text(encoding="utf-8")


def test_a_token_of_ones_own_is_said_nowhere(tmp_path: Path) -> None:
    token = "a-token-of-the-operator"
    with run_server(tmp_path, "--host", "127.0.0.1", FER_WEB_TOKEN=token) as server:
        assert server.get("/api/model").status_code == 401
        assert server.get("/api/model", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        server.process.terminate()
        assert server.process.wait(20) == -signal.SIGTERM
        assert server.process.stdout is not None
        said = server.said + server.process.stdout.read() + server.log.read_text(encoding="utf-8")
    assert token not in said
    assert "token" in said


@pytest.mark.slow
def test_a_killed_server_leaves_nothing_behind(tmp_path: Path) -> None:
    """A running video goes with its process; what is ready to be fetched, with the next start."""
    long = long_clip(tmp_path / "long.mp4")
    short = write_clip(tmp_path / "short.mp4", seconds=0.2).read_bytes()
    with run_server(tmp_path) as server:
        finish(server, server.post("/api/videos", short).json()["id"])
        number = server.post("/api/videos", long).json()["id"]
        wait_for(lambda: server.get(f"/api/videos/{number}").json()["frames"] > 0)
        (worker,) = children(server)
        os.kill(server.process.pid, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text())
        wait_for(lambda: not [path for path in server.left() if number in path.parts])
        assert server.left()
    with run_server(tmp_path) as server:
        assert server.left() == []
        assert len(list(server.temporary.iterdir())) == 1
    assert list(server.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "192.0.2.1"], "error: 192.0.2.1 port 8000 cannot be used: Cannot assign requested address."),
        (["--port", "99999"], "error: 127.0.0.1 port 99999 cannot be used"),
        (["--port", "0", "--model", "none.onnx"], "error: No model at none.onnx."),
    ],
    ids=["address", "port", "model"],
)
def test_errors_of_the_operator_are_one_line(options: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "src.web", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--visitors", "0"), "--visitors must be at least 1."),
        (("--public", "https://faces.example.org/"), "https://faces.example.org/ is not a host name"),
    ],
)
def test_wrong_options_end_with_2(options: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        web_main([*options])
    assert message in capsys.readouterr().err


def test_it_imports_nothing_of_the_pipeline() -> None:
    code = "import sys, src.web.app, src.web.video_job, src.realtime.results; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {name.split(".")[0] for name in loaded.split()}
    assert not names & {"tensorflow", "keras", "jax", "pandas", "sklearn", "wandb", "dvc", "matplotlib", "PIL"}
    assert not {name for name in loaded.split() if name.startswith(("src.network", "stages", "tools"))}


def test_its_locks_fit_the_others() -> None:
    """No package in two versions. .venv has the page's packages too, but one OpenCV, since two overwrite each other."""

    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / f"requirements{name}.txt").read_text(encoding="utf-8").splitlines()
        return dict(line.split(" ")[0].split("==") for line in lines if "==" in line and line[0].isalnum())

    assert {name for name in _names("requirements-web.in") if name[0] != "-"} <= set(pins("-web"))
    web, live_program, venv = pins("-web"), pins("-runtime"), pins("") | pins("-cluster") | pins("-dev")
    opencv = web.pop("opencv-python-headless")
    assert live_program.items() <= {**web, "opencv-python": opencv}.items() <= venv.items()
    assert "opencv-python" not in web and "opencv-python-headless" not in venv


def test_the_container_copies_files_that_exist() -> None:
    text = (ROOT / "deploy/Containerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY ((?!--from).*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert copied and all((ROOT / name).exists() for name in copied)


def test_logs_hold_no_addresses_and_no_pictures(server: Server) -> None:
    """Last: after all that the tests above have sent."""
    log = server.log.read_text(encoding="utf-8")
    assert "127.0.0.1" not in log and "JFIF" not in log and "Traceback" not in log, log
