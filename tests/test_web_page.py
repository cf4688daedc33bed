"""The page in headless Chromium, as a person uses it. Its camera is a file; skipped where there is no browser."""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from src.realtime.sources import VideoFile
from src.recognition.detection import HaarDetector, find_faces
from tests.realtime_fixtures import write_clip, write_film
from tests.web_fixtures import EXAMPLES, Server, jpeg, live, one_face, read_example, run_server, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver"),
]
# A folder for the screenshots, to look at them.
SCREENSHOTS = os.environ.get("FER_SCREENSHOTS")
_PHONE = (390, 844)


class Page:
    """A browser with the page open."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.get(url)
        self.until(lambda: driver.execute_script("return document.body.dataset.ready"))

    def __call__(self, name: str) -> Any:
        return self.driver.find_element(By.ID, name)

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        return wait_for(condition, seconds)

    def js(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def tab(self, name: str) -> None:
        self(f"tab-{name}").click()

    def text(self, name: str) -> str:
        return self(name).text

    def start_camera(self) -> None:
        self.tab("live")
        self("live-start").click()

    def measured(self) -> dict[str, float]:
        """Frames, rate and lag of the live tab."""
        return self.driver.execute_async_script(
            "const done = arguments[0]; import('/static/live.js').then((live) => done({ ...live.measured }))"
        )

    def canvas(self, name: str) -> np.ndarray:
        """What a canvas shows, uint8 `(H, W, 3)` BGR."""
        import base64

        url = self.js("return document.getElementById(arguments[0]).toDataURL('image/png')", name)
        image = cv2.imdecode(np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return image

    def look(self, name: str) -> None:
        if SCREENSHOTS:
            self.driver.save_screenshot(str(Path(SCREENSHOTS) / f"{name}.png"))

    def complaints(self) -> list[str]:
        """What the console says is wrong, answers that are meant to be errors left out."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "WebSocket connection" not in entry["message"]
        ]


ALLOW = "--use-fake-ui-for-media-stream"


@pytest.fixture
def open_page(server: Server, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """open_page(face=None, camera=ALLOW, url=...): face: what a camera sees; without one the browser has no camera."""
    drivers: list[Any] = []

    def start(face: np.ndarray | None = None, camera: str = ALLOW, url: str = server.url) -> Page:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for flag in (
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1100,900", camera),
        ):
            options.add_argument(flag)
        if face is not None:
            options.add_argument("--use-fake-device-for-media-stream")
            options.add_argument(f"--use-file-for-fake-video-capture={camera_file(tmp_path / 'camera.mjpeg', face)}")
        drivers.append(webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)))
        return Page(drivers[-1], url)

    yield start
    for driver in drivers:
        driver.quit()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("server")) as running:
        yield running


# window.cameras(): how many were opened, and how many of them are on.
COUNT_CAMERAS = """
const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices), opened = [];
devices.getUserMedia = async (how) => {
  await new Promise((done) => setTimeout(done, 300));
  opened.push(await open(how));
  return opened.at(-1);
};
window.cameras = () => [opened.length, opened.filter((stream) => stream.active).length];
"""


def camera_file(path: Path, face: np.ndarray) -> Path:
    """Four seconds of a face that sways a little, as a camera's file."""
    large = cv2.resize(face, (640, 480))
    frames = [np.roll(large, round(10 * np.sin(number / 5)), axis=1) for number in range(100)]
    path.write_bytes(b"".join(map(jpeg, frames)))
    return path


def test_examples_are_there_on_opening(open_page: Any, server: Server) -> None:
    page = open_page()
    assert page("examples").is_displayed() and not page("photos").is_displayed()
    titles = [title.text for title in page.driver.find_elements(By.CSS_SELECTOR, "#example-results .faces strong")]
    assert len(titles) == 7 and titles[0].startswith("Face 1: happy,")
    about = server.get("/api/model").json()
    assert about["figures"][0]["accuracy"] in page.text("model") and about["model_sha256"][:8] in page.text("model")
    page.look("examples")
    before = page.js("return document.querySelector('#example-results img').src")
    page("blur").click()
    page.until(lambda: page.js("return document.querySelector('#example-results img').src") != before)
    page.until(lambda: page.js("return document.querySelector('#example-results img').complete"))
    page.look("examples-blurred")
    for path in ("/api", "/card"):
        page.driver.get(server.url + path)
        page.until(lambda: page.js("return document.querySelectorAll('h2').length") > 5)
        page.look(path[1:])
    assert page.complaints() == []


def test_photos_chosen_dropped_and_pasted(open_page: Any, server: Server, tmp_path: Path) -> None:
    page = open_page()
    page.tab("photos")
    (tmp_path / "notes.txt").write_text("no picture")
    cv2.imwrite(str(tmp_path / "large.png"), cv2.resize(read_example("three.jpg"), (4000, 2500)))
    names = [EXAMPLES / "one.jpg", tmp_path / "notes.txt", tmp_path / "large.png"]
    page("photo-files").send_keys("\n".join(map(str, names)))
    page.until(lambda: page.text("photo-status") == "Done.")
    page.look("photos")
    shown = page.driver.find_elements(By.CSS_SELECTOR, "#photo-results > *")
    assert [part.tag_name for part in shown] == ["article", "p", "article"]
    assert "1 happy" in shown[0].text and "your browser cannot read it as a picture" in shown[1].text
    assert "3 faces" in shown[2].text
    page.js(
        """const [kind, zone] = arguments;
        const picture = document.querySelector('#photo-results img'), canvas = document.createElement('canvas');
        Object.assign(canvas, { width: picture.naturalWidth, height: picture.naturalHeight });
        canvas.getContext('2d').drawImage(picture, 0, 0);
        canvas.toBlob((blob) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([blob], kind + '.png', { type: 'image/png' }));
          zone.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true }));
          document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer }));
        });""",
        "dropped",
        page("photo-drop"),
    )
    page.until(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "#photo-results article")) == 4)
    assert page.complaints() == []


def test_a_snapshot_of_the_camera(open_page: Any, server: Server, tmp_path: Path) -> None:
    page = open_page(one_face(True))
    page.js(COUNT_CAMERAS)
    page.tab("photos")
    page("snapshot-open").click()
    page("snapshot-open").click()  # impatient
    page.until(lambda: page("snapshot-take").is_displayed())
    page("snapshot-take").click()
    page.until(lambda: page.text("photo-status") == "Done.")
    assert "1 face:" in page.text("photo-results")
    page.tab("examples")
    assert page.js("return document.getElementById('snapshot').hidden")
    assert page.js("return window.cameras()") == [2, 0]


@pytest.mark.parametrize(("tab", "button"), [("photos", "snapshot-open"), ("live", "live-start")])
def test_the_tab_is_left_while_the_browser_asks(open_page: Any, server: Server, tab: str, button: str) -> None:
    page = open_page(one_face(True))
    page.js(COUNT_CAMERAS)
    page.tab(tab)
    page(button).click()
    page.tab("examples")
    page.until(lambda: page.js("return window.cameras()") == [1, 0])
    assert server.count("visitors") == 0


def test_a_video(open_page: Any, server: Server, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=2, num_faces=2, size=(640, 360))
    page = open_page()
    page.tab("video")
    page.js(
        """const transfer = new DataTransfer();
        transfer.items.add(new File([new ArrayBuffer(201 << 20)], 'large.mp4'));
        arguments[0].dispatchEvent(new DragEvent('drop', { dataTransfer: transfer }));""",
        page("video-drop"),
    )
    page.until(lambda: "large.mp4 is larger than 200 MB" in page.text("video-status"))
    # A phone that changes networks: every second request is lost.
    page.js(
        """const get = window.fetch;
        let asked = 0;
        window.fetch = async (path, how) => {
          if (path.startsWith('/api/videos/') && !how.method && asked++ % 2) throw new TypeError();
          return get(path, how);
        };"""
    )
    page("video-file").send_keys(str(clip))
    page.until(lambda: "The server has deleted the video" in page.text("video-status"), 120)
    assert page.text("video-status").startswith("50 frames.")
    people = page.driver.find_elements(By.CSS_SELECTOR, "#video-people tbody tr")
    assert len(people) == 2 and "%" in people[0].text
    links = [link.get_attribute("download") for link in page.driver.find_elements(By.CSS_SELECTOR, "#video-links a")]
    assert links == ["annotated.mp4", "faces.csv", "faces.json", "people.json", "summary.png"]
    page.until(lambda: page.js("return document.getElementById('video-player').duration") > 1.5)
    page.js("window.scrollTo(0, 400)")
    page.look("video")
    assert server.left() == []
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:3000])
    page("video-file").send_keys(str(tmp_path / "broken.mp4"))
    page.until(lambda: "cannot be read" in page.text("video-status"))
    assert "problem" in page("video-status").get_attribute("class")
    page.until(lambda: server.left() == [])


def test_a_video_is_cancelled(open_page: Any, server: Server, tmp_path: Path) -> None:
    frame = cv2.resize(one_face(True), (640, 480))
    film = write_film(tmp_path / "long.mp4", [frame] * 1500, [number / 25 for number in range(1500)])
    page = open_page()
    page.tab("video")
    page("video-file").send_keys(str(film))
    page.until(lambda: "Looking at it" in page.text("video-status"))
    page("video-cancel").click()
    page.until(lambda: page.text("video-status") == "Cancelled.")
    wait_for(lambda: server.count("videos") == 0)


def faces_found(picture: np.ndarray) -> int:
    return len(find_faces(HaarDetector(), picture)[0])


def test_live_streams_draws_blurs_and_records(open_page: Any, server: Server, tmp_path: Path) -> None:
    page = open_page(read_example("one.jpg"))
    page.start_camera()
    page.until(lambda: page.measured()["frames"] > 40)
    assert "1 face: 1 " in page.text("live-status")
    measured = page.measured()
    print(f"live in Chromium, camera, browser and server on one machine: {measured}")
    assert measured["rate"] > 0 and measured["lag"] < 8000  # a busy machine; on an idle one 20 and 30
    page.look("live")
    shown = page.canvas("live-view")
    assert shown.shape == (480, 640, 3) and faces_found(shown) == 1
    page("live-record").click()
    page("blur").click()
    seen = page.measured()["frames"]
    page.until(lambda: page.measured()["frames"] > seen + 10)
    blurred = page.canvas("live-view")
    page.look("live-blurred")
    assert faces_found(blurred) == 0
    page("live-record").click()
    saving = {"behavior": "allow", "downloadPath": str(tmp_path), "eventsEnabled": False}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", saving)
    page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#live-downloads a"))[0].click()
    (recording,) = page.until(lambda: [path for path in tmp_path.glob("recording.*") if path.suffix != ".crdownload"])
    with contextlib.closing(VideoFile(recording, "recording")) as film:
        *_, last = film.frames()
    assert last.number > 5 and last.image.shape == (480, 640, 3) and faces_found(last.image) == 0
    page("live-start").click()
    wait_for(lambda: server.count("visitors") == 0)
    assert page.text("live-status") == "The camera is off."
    assert page.complaints() == []


def test_it_connects_again(open_page: Any, tmp_path: Path) -> None:
    """The server is ended and started again, as for an update."""
    with run_server(tmp_path / "first") as first:
        port = first.url.rpartition(":")[2]
        page = open_page(one_face(True), url=first.url)
        page.start_camera()
        page.until(lambda: page.measured()["frames"] > 5)
        os.kill(first.process.pid, signal.SIGKILL)
        page.until(lambda: "The connection was lost. Trying again" in page.text("live-status"))
        page.look("live-lost")
        first.process.wait(10)
    seen = page.measured()["frames"]
    with run_server(tmp_path / "second", "--port", port):
        page.until(lambda: page.measured()["frames"] > seen + 5)
        page.until(lambda: "1 face" in page.text("live-status"))


def test_when_full_the_page_says_so_and_waits(open_page: Any, tmp_path: Path) -> None:
    with run_server(tmp_path, "--visitors", "1") as server:
        page = open_page(one_face(True), url=server.url)
        page.tab("live")
        with live(server):
            wait_for(lambda: server.count("visitors") == 1)
            page("live-start").click()
            page.until(lambda: "All 1 places are taken" in page.text("live-status"))
        page.until(lambda: page.measured()["frames"] > 3)


@pytest.mark.parametrize(
    ("camera", "sentence"),
    [(False, "No camera was found"), (True, "The camera was not allowed")],
    ids=["none", "refused"],
)
def test_without_a_camera(open_page: Any, server: Server, tmp_path: Path, camera: bool, sentence: str) -> None:
    page = open_page(one_face(True), "--deny-permission-prompts") if camera else open_page()
    page.start_camera()
    page.until(lambda: sentence in page.text("live-status"))
    assert page.text("live-start") == "Start the camera"
    page.look(f"live-without-{camera}")


def test_with_the_keyboard_alone(open_page: Any, server: Server, tmp_path: Path) -> None:
    """From the first Tab: the blur switch, the tabs by arrow keys, the camera by Enter; focus can be seen."""
    page = open_page(one_face(True))

    def press(key: str) -> str:
        webdriver.ActionChains(page.driver).send_keys(key).perform()
        return page.js("return document.activeElement.id")

    assert press(Keys.TAB) == "blur"
    press(Keys.SPACE)
    assert page("blur").is_selected()
    assert press(Keys.TAB) == "tab-examples"
    assert press(Keys.ARROW_RIGHT) == "tab-photos" and page("photos").is_displayed()
    assert press(Keys.END) == "tab-live" and page("live").is_displayed()
    assert page.js("return getComputedStyle(document.activeElement).outlineWidth") == "3px"
    assert press(Keys.TAB) == "live-start"
    press(Keys.ENTER)
    page.until(lambda: page.measured()["frames"] > 3)
    press(Keys.ENTER)
    page.until(lambda: page.text("live-status") == "The camera is off.")
    page("tab-photos").click()
    assert press(Keys.TAB) == "photo-files"


def test_what_a_screen_reader_finds(open_page: Any, server: Server) -> None:
    """Every control has a name, pictures have words, news are announced, headings and tabs have their roles."""
    page = open_page()
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node.get("ignored") and "role" in node
    ]
    controls = {"button", "tab", "checkbox", "combobox", "link", "image", "textbox"}
    assert [entry for entry in named if entry[0] in controls and not entry[1].strip()] == []
    assert [name for role, name in named if role == "tab"] == ["Examples", "Photos", "Video", "Live"]
    assert any(role == "image" and name.startswith("1 face: 1 happy") for role, name in named)
    assert page.js("return [...document.querySelectorAll('[role=status]')].length") == 3
    assert page.js("return document.documentElement.lang") == "en"


def contrast(page: Page, selector: str) -> float:
    """WCAG's ratio between text and background of an element."""
    colours = page.js(
        """const style = (e) => getComputedStyle(e);
        let back = document.querySelector(arguments[0]), ink = style(back).color;
        while (style(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
        return [ink, style(back).backgroundColor].map((c) => c.match(/[\\d.]+/g).slice(0, 3).map(Number));""",
        selector,
    )
    levels = []
    for colour in colours:
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.array(colour) / 255]
        levels.append(float(np.dot(parts, (0.2126, 0.7152, 0.0722))))
    return (max(levels) + 0.05) / (min(levels) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width_and_dark_mode(open_page: Any, server: Server, scheme: str) -> None:
    page = open_page()
    metrics = {"width": _PHONE[0], "height": _PHONE[1], "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    for name in ("examples", "photos", "video", "live"):
        page.tab(name)
        assert page.js("return document.documentElement.scrollWidth") <= _PHONE[0], name
        page.look(f"phone-{scheme}-{name}")
    small = page.js(
        """return [...document.querySelectorAll('button, select, .button')].filter((e) => e.offsetParent)
        .filter((e) => e.getBoundingClientRect().height < 44).map((e) => e.id || e.textContent)"""
    )
    assert small == []
    for selector in ("body", ".hint", ".privacy", "[role=tab][aria-selected=true]", "#live-start", "footer", "a"):
        assert contrast(page, selector) >= 4.5, selector


def test_the_token_of_the_address(open_page: Any, tmp_path: Path) -> None:
    """It is taken out of the address, works for every request, and without it the page says what is missing."""
    with run_server(tmp_path, "--host", "0.0.0.0") as server:
        token = server.said.strip().partition("#token=")[2]
        page = open_page(one_face(True), url=server.url)
        assert "asks for a token" in page.text("model")
        page.driver.get(f"{server.url}/#token={token}")  # in the same tab, which only changes what is behind the #
        page.until(lambda: "detector" in page.text("model"))
        assert token not in page.driver.current_url
        page.start_camera()
        page.until(lambda: page.measured()["frames"] > 3)
