// A video: sent with progress, recognized by the server, its results fetched and then deleted there.
import { $, ask, authorization, blurred, link, model, onFiles, panels, say } from "./main.js";
import { percent, Timeline } from "./draw.js";

const FILES = { "annotated.mp4": "annotated video", "faces.csv": "table (CSV)", "faces.json": "table (JSON lines)", "people.json": "people (JSON)", "summary.png": "summary (PNG)" };
let current = null; // { id, request, cancelled }
let drawTimeline = null; // once there is one; a hidden tab has no width to draw it for

function upload(file, job) {
  return new Promise((done, fail) => {
    const request = (job.request = new XMLHttpRequest());
    request.open("POST", `/api/videos?blur=${blurred()}`);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => step(`Sending … ${percent(loaded / total)}`, (0.3 * loaded) / total);
    request.onerror = () => fail(new Error("The server broke off. Try again."));
    request.onabort = () => fail(new Error("Cancelled."));
    request.onload = () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch { /* not ours: a proxy's page */ }
      if (request.status === 202) done(answer);
      else fail(new Error(answer.error ?? `The server answered with error ${request.status}.`));
    };
    request.send(file);
  });
}

function step(text, value) {
  say("video-status", text);
  $("video-progress").value = value;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** What `get` gives; where the network is away, or a phone asleep, it is asked again for a minute. */
async function patiently(job, get) {
  for (let tries = 30; ; tries--) {
    if (job.cancelled) throw new Error("Cancelled.");
    try {
      return await get();
    } catch (error) {
      if (error.answered || !tries) throw error;
      say("video-status", "The connection was lost. Trying again …");
      await pause(2);
    }
  }
}

async function follow(job) {
  let state = { state: "waiting" };
  while (state.state !== "done") {
    await pause(0.4);
    state = await patiently(job, async () => (await ask(`/api/videos/${job.id}`)).json());
    if (state.state === "failed") throw new Error(state.error);
    step(state.state === "waiting" ? "Waiting for other videos …" : `Looking at it … ${state.frames} frames`, 0.3 + 0.7 * state.progress);
  }
  return state;
}

const remove = (job) => job?.id && fetch(`/api/videos/${job.id}`, { method: "DELETE", headers: authorization(), keepalive: true }).catch(() => {});

async function take([file]) {
  if (!file) return;
  const job = (current = {});
  $("video-results").hidden = true;
  try {
    const { limits } = await model;
    if (file.size > limits.video_bytes) throw new Error(`${file.name} is larger than ${limits.video_bytes >> 20} MB. Cut it shorter, or make it smaller.`);
    $("video-progress").hidden = $("video-cancel").hidden = false;
    job.id = (await upload(file, job)).id;
    const state = await follow(job), blobs = {};
    for (const name of state.results) blobs[name] = await patiently(job, async () => (await ask(`/api/videos/${job.id}/${name}`)).blob());
    await show(blobs);
    step(`${state.frames} frames. ${state.note ?? ""} The server has deleted the video.`, 1);
  } catch (error) {
    say("video-status", error.message, true);
  } finally {
    await remove(job);
    $("video-progress").hidden = $("video-cancel").hidden = true;
    current = null;
  }
}

async function show(blobs) {
  for (const a of $("video-links").querySelectorAll("a")) URL.revokeObjectURL(a.href);
  $("video-links").replaceChildren(...Object.entries(FILES).filter(([name]) => blobs[name]).flatMap(([name, text]) => [link(`Save ${text}`, blobs[name], name), " "]));
  $("video-player").hidden = !blobs["annotated.mp4"];
  if (blobs["annotated.mp4"]) $("video-player").src = $("video-links").querySelector("a").href;
  const rows = (await blobs["faces.json"].text()).split("\n").slice(1, -1).map((line) => JSON.parse(line));
  const { people } = JSON.parse(await blobs["people.json"].text()), timeline = new Timeline();
  for (const [time, faces] of Map.groupBy?.(rows, (row) => row.time_s) ?? grouped(rows)) timeline.add(time, faces);
  const longest = people.toSorted((a, b) => b.seconds - a.seconds).slice(0, 20).map((person) => person.face_id).sort((a, b) => a - b);
  $("video-people").tBodies[0].replaceChildren(...people.map(({ face_id, seconds, shares }) => {
    const row = document.createElement("tr"), words = Object.entries(shares).map(([name, share]) => `${name} ${percent(share)}`).join(", ");
    row.append(...[face_id, `${seconds.toFixed(1)} s`, words].map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  }));
  $("video-results").hidden = false;
  $("video-timeline").setAttribute("aria-label", `Timeline of ${longest.length} people; the table below says the same in words`);
  drawTimeline = () => timeline.draw($("video-timeline"), longest, 0, rows.at(-1)?.time_s ?? 1, (time) => `${time.toFixed(1)} s`);
  drawTimeline();
}

function grouped(rows) {
  const groups = new Map();
  for (const row of rows) groups.set(row.time_s, [...(groups.get(row.time_s) ?? []), row]);
  return groups;
}

onFiles("video-file", "video-drop", (files) => (current ? say("video-status", "One video at a time.", true) : take(files)));
$("video-cancel").addEventListener("click", () => {
  if (!current) return;
  current.cancelled = true;
  if (!current.id) current.request?.abort();
});
addEventListener("pagehide", () => remove(current));
panels.set("video", { shown: () => drawTimeline?.() });
