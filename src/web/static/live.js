// The live tab: one frame in flight; the frame that was looked at is drawn, blurred and recorded here.
import { $, blurred, link, openCamera, panels, say, token } from "./main.js";
import { faceItems, paint, sentence, Timeline } from "./draw.js";

const LONGEST = 640, RATE = 20, ANSWER_S = 8, SHOWN_S = 30; // pixels, frames/s, seconds
const sent = document.createElement("canvas");
let stream = null, socket = null, run = 0, recorder = null, retry_s = 0.5;
export const measured = { frames: 0, rate: 0, lag: 0 }; // for the tests, and the line below the picture

const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
const settings = () => JSON.stringify({ token: token(), blur: blurred() });

/** An open socket, settings sent. `line.ask(message)` gives the answer, or throws an Error: "lost", or what the server says, with
 * `final` where it makes no sense to try again. */
function connect() {
  const line = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
  let reason = "lost", failure = null, waiting = {};
  line.onmessage = ({ data }) => {
    const content = JSON.parse(data);
    if (content.error) reason = content.error;
    else waiting.done?.(content);
  };
  line.onclose = ({ code }) => {
    failure = Object.assign(new Error(reason), { final: [1003, 1008, 1009].includes(code) });
    waiting.fail(failure);
  };
  line.ask = (message) => new Promise((done, fail) => {
    if (failure) return fail(failure);
    const late = setTimeout(() => fail(new Error("lost")), 1000 * ANSWER_S);
    waiting = { done: (content) => (clearTimeout(late), done(content)), fail: (error) => (clearTimeout(late), fail(error)) };
    line.send(message);
  });
  return new Promise((done, fail) => {
    waiting = { fail };
    line.onopen = () => {
      line.send(settings());
      done(line);
    };
  });
}

async function capture(video) {
  const scale = Math.min(1, LONGEST / Math.max(video.videoWidth, video.videoHeight));
  const width = Math.round(scale * video.videoWidth), height = Math.round(scale * video.videoHeight);
  if (sent.width !== width || sent.height !== height) Object.assign(sent, { width, height });
  sent.getContext("2d").drawImage(video, 0, 0, width, height);
  return new Promise((done) => sent.toBlob(done, "image/jpeg", 0.8));
}

async function converse(mine, video, line) {
  const timeline = new Timeline(), lags = [], times = [];
  let spoken = 0, blur = blurred();
  while (run === mine) {
    const now = performance.now(), shot = await capture(video);
    if (blur !== blurred()) line.send(settings());
    blur = blurred(); // as it was when the frame was searched
    const result = await line.ask(new Blob([new Float64Array([now / 1000]), shot]));
    if (run !== mine) return;
    retry_s = 0.5;
    // What was not searched for hiding is not shown.
    if (blur === blurred()) paint($("live-view"), sent, result, { blur, mirror: $("live-mirror").checked });
    measured.frames += 1;
    times.push(now);
    lags.push(performance.now() - now);
    while (times.length > 40) times.shift(), lags.shift();
    measured.rate = times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : 0;
    measured.lag = lags.toSorted((a, b) => a - b)[Math.floor(0.95 * lags.length)];
    timeline.add(result.time_s, result.faces);
    timeline.forget(result.time_s - SHOWN_S);
    faceItems($("live-faces"), result.faces);
    if (now - spoken > 1000) {
      spoken = now;
      $("live-view").setAttribute("aria-label", sentence(result.faces));
      say("live-status", sentence(result.faces));
      $("live-speed").textContent = `${measured.rate.toFixed(0)} frames/s, 95 % of them within ${measured.lag.toFixed(0)} ms of the camera`;
      $("live-timeline").hidden = !timeline.faces.size;
      const numbers = [...timeline.faces.keys()].slice(-8);
      if (numbers.length) timeline.draw($("live-timeline"), numbers, result.time_s - SHOWN_S, result.time_s, (time) => `${Math.round(time - result.time_s)} s`);
    }
    await wait(Math.max(0, 1 / RATE - (performance.now() - now) / 1000));
  }
}

async function start() {
  const mine = ++run, video = $("live-source");
  say("live-status", "Asking for the camera …");
  try {
    const opened = await openCamera($("live-camera").value);
    if (run !== mine) return opened.getTracks().forEach((track) => track.stop()); // the tab was left, or clicked twice
    stream = opened;
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    if (run === mine) stop(error.message, true);
    return;
  }
  $("live-start").textContent = "Stop the camera";
  $("live-record").disabled = $("live-save").disabled = $("live-camera").disabled = false;
  listCameras();
  stream.getVideoTracks()[0].onended = () => stop("The camera was taken away.", true);
  while (run === mine) {
    let line = null; // its own: stop and start may have opened another one meanwhile
    try {
      line = await connect();
      if (run !== mine) return;
      socket = line;
      say("live-status", "Connected.");
      await converse(mine, video, line);
    } catch (error) {
      if (run !== mine) return;
      if (error.final) return stop(error.message, true);
      say("live-status", error.message === "lost" ? "The connection was lost. Trying again …" : error.message, true);
      await wait(retry_s);
      retry_s = Math.min(8, 2 * retry_s);
    } finally {
      line?.close();
    }
  }
}

function stop(text = "The camera is off.", wrong = false) {
  run += 1;
  socket?.close();
  stream?.getTracks().forEach((track) => track.stop());
  stream = socket = null;
  if (recorder) record();
  $("live-start").textContent = "Start the camera";
  $("live-record").disabled = $("live-save").disabled = true;
  $("live-speed").textContent = "";
  faceItems($("live-faces"), []);
  say("live-status", text, wrong);
}

async function listCameras() {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  const used = stream?.getVideoTracks()[0].getSettings().deviceId;
  $("live-camera").replaceChildren(...cameras.map(({ deviceId, label }, number) => new Option(label || `camera ${number + 1}`, deviceId, false, deviceId === used)));
}

/** Start or end a recording of what is shown; it never leaves the browser. */
function record() {
  if (recorder) recorder.stop();
  else {
    const type = ["video/mp4", "video/webm"].find((kind) => MediaRecorder.isTypeSupported(kind)), parts = [];
    recorder = new MediaRecorder($("live-view").captureStream(), { mimeType: type });
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      $("live-downloads").append(link("Save the recording", new Blob(parts, { type }), `recording.${type.slice(6)}`), " ");
    };
    recorder.start(1000);
    $("live-record").textContent = "Stop recording";
    return $("live-record").setAttribute("aria-pressed", "true");
  }
  recorder = null;
  $("live-record").textContent = "Record";
  $("live-record").setAttribute("aria-pressed", "false");
}

$("live-start").addEventListener("click", () => (stream ? stop() : start()));
$("live-record").addEventListener("click", record);
$("live-save").addEventListener("click", () => $("live-view").toBlob((blob) => link("", blob, "live.png").click(), "image/png"));
$("live-camera").addEventListener("change", () => {
  stop();
  start();
});
addEventListener("pagehide", () => stop());
panels.set("live", { left: () => run && stop() }); // also while the browser asks
