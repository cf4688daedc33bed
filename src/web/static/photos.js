// Photos: chosen, dropped, pasted, or taken with the camera; made smaller here, and sent one after the other.
import { $, ask, encoded, onFiles, openCamera, panels, say, showPicture } from "./main.js";

const LONGEST = 2560; // pixels; what the detector searches at most, in tiles
let queue = Promise.resolve(), left = 0, camera = null, asked = 0;

/** The photo upright and without its metadata, as a canvas. */
async function read(file) {
  let image;
  try {
    image = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error("your browser cannot read it as a picture. Save it as JPEG or PNG first.");
  }
  const scale = Math.min(1, LONGEST / Math.max(image.width, image.height)), canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.max(1, Math.round(scale * image.width)), height: Math.max(1, Math.round(scale * image.height)) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  image.close();
  return canvas;
}

async function recognize(name, canvas) {
  const body = await encoded(canvas, "image/jpeg", 0.92);
  const result = await (await ask("/api/pictures", { method: "POST", body })).json();
  await showPicture($("photo-results"), name, body, result);
}

function add(name, reading) {
  left += 1;
  queue = queue.then(async () => {
    say("photo-status", `Looking at ${name} …`);
    try {
      await recognize(name, await reading());
      left -= 1;
      say("photo-status", left ? `${left} more …` : "Done.");
    } catch (error) {
      left -= 1;
      say("photo-status", `${name}: ${error.message}`, true);
      const failed = Object.assign(document.createElement("p"), { className: "problem", textContent: `${name}: ${error.message}` });
      $("photo-results").append(failed);
    }
  });
}

const addFiles = (files) => files.forEach((file) => add(file.name || "pasted picture", () => read(file)));
onFiles("photo-files", "photo-drop", addFiles);
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) $("tab-photos").click();
  addFiles(files);
});

function close() {
  asked += 1;
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  $("snapshot").hidden = true;
}

$("snapshot-open").addEventListener("click", async () => {
  close();
  const mine = asked;
  try {
    const opened = await openCamera();
    if (asked !== mine) return opened.getTracks().forEach((track) => track.stop()); // the tab was left, or clicked twice
    camera = opened;
    $("snapshot-video").srcObject = camera;
    await $("snapshot-video").play();
    $("snapshot").hidden = false;
    say("photo-status", "The camera is on; nothing is sent before you take the picture.");
    $("snapshot-take").focus();
  } catch (error) {
    say("photo-status", error.message, true);
  }
});
$("snapshot-take").addEventListener("click", () => {
  const video = $("snapshot-video"), canvas = document.createElement("canvas");
  Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  add("camera picture", async () => canvas);
});
$("snapshot-close").addEventListener("click", close);
panels.set("photos", { left: close });
