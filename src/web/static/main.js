// Tabs, the examples, and what the other modules share: requests, the model, the blur switch.
import { faceItems, legend, paint, sentence } from "./draw.js";

export const $ = (id) => document.getElementById(id);
export const blurred = () => $("blur").checked;

// The token comes behind the # of the address, which browsers send nowhere; it stays in this tab.
const given = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B")).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}
addEventListener("hashchange", () => location.hash.startsWith("#token=") && location.reload()); // put into an open page
export const token = () => sessionStorage.getItem("token");
export const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

/** A request to the API; throws an Error whose message is one sentence for people, `answered` where it is the server's. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: authorization() });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (!answer.ok) throw Object.assign(new Error(await problem(answer)), { answered: true });
  return answer;
}

async function problem(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `The server answered with error ${answer.status}.`;
  }
}

export function say(id, text, wrong = false) {
  $(id).textContent = text;
  $(id).classList.toggle("problem", wrong);
}

export function link(text, blob, name) {
  const a = document.createElement("a");
  Object.assign(a, { textContent: text, href: URL.createObjectURL(blob), download: name });
  return a;
}

/** A file field, a drop zone and their files. */
export function onFiles(field, zone, use) {
  $(field).addEventListener("change", () => {
    use([...$(field).files]);
    $(field).value = "";
  });
  $(zone).addEventListener("dragover", (event) => {
    event.preventDefault();
    $(zone).classList.add("over");
  });
  $(zone).addEventListener("dragleave", () => $(zone).classList.remove("over"));
  $(zone).addEventListener("drop", (event) => {
    event.preventDefault();
    $(zone).classList.remove("over");
    use([...event.dataTransfer.files]);
  });
}

export async function openCamera(device) {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error("Browsers give a camera to pages with HTTPS only, or on this machine.");
  const video = device ? { deviceId: { exact: device } } : { facingMode: "user" };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...video, width: { ideal: 640 }, height: { ideal: 480 } } });
  } catch (error) {
    const sentences = {
      NotAllowedError: "The camera was not allowed. Allow it beside the address of this page, then start again.",
      NotFoundError: "No camera was found. Plug one in, or use the Photos tab.",
      NotReadableError: "Another program uses the camera. Close it, then start again.",
    };
    throw new Error(sentences[error.name] ?? `The camera cannot be used (${error.name}).`);
  }
}

const redraws = [];
let drawing = Promise.resolve(); // one after the other: a canvas of a large photo has 20 MB, and phones have few of them

export const encoded = (canvas, ...kind) => new Promise((done) => canvas.toBlob(done, ...kind));

/** A picture (its bytes, a Blob) with its faces, as an article; drawn again when blur is switched. */
export async function showPicture(parent, title, content, result) {
  const article = document.createElement("article");
  article.className = "result";
  const heading = Object.assign(document.createElement("h2"), { textContent: title });
  const picture = Object.assign(document.createElement("img"), { alt: sentence(result.faces) });
  const list = Object.assign(document.createElement("ul"), { className: "faces" });
  const save = Object.assign(document.createElement("button"), { type: "button", textContent: "Save picture" });
  const draw = async (...kind) => {
    const image = await createImageBitmap(content), canvas = document.createElement("canvas");
    paint(canvas, image, result, { blur: blurred() });
    image.close();
    return encoded(canvas, ...kind);
  };
  const show = () => (drawing = drawing.catch(() => {}).then(async () => {
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(await draw("image/jpeg", 0.92));
  }));
  save.addEventListener("click", async () => link("", await draw("image/png"), "faces.png").click());
  faceItems(list, result.faces);
  const words = Object.assign(document.createElement("p"), { textContent: sentence(result.faces) });
  article.append(heading, picture, words, list, save);
  redraws.push(show);
  await show();
  parent.append(article);
}

export const panels = new Map(); // name of a tab -> { shown, left }, called then
const tabs = [...document.querySelectorAll("[role=tab]")];

function select(tab) {
  for (const other of tabs) {
    const chosen = other === tab, name = other.getAttribute("aria-controls"), before = !$(name).hidden;
    other.setAttribute("aria-selected", chosen);
    other.tabIndex = chosen ? 0 : -1;
    $(name).hidden = !chosen;
    if (before !== chosen) panels.get(name)?.[chosen ? "shown" : "left"]?.();
  }
}

for (const [number, tab] of tabs.entries()) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });
}
$("blur").addEventListener("change", () => redraws.forEach((draw) => draw()));

export const model = (async () => (await ask("/api/model")).json())();

async function start() {
  try {
    const about = await model;
    legend(about.colours);
    const figures = about.figures.filter(({ labels }) => ["FER+ majority, 8 classes", "ExpW"].includes(labels));
    const words = figures.map(({ labels, n, accuracy }) => `${labels}: ${accuracy}, n = ${n}`).join("; ");
    $("model").textContent = `Model ${about.model} (${about.model_sha256.slice(0, 8)}), detector ${about.detector}; “uncertain” below ` +
      `${Math.round(100 * about.uncertain_below)} %.` + (words ? ` Accuracy on test faces (95 % interval): ${words}.` : "");
    const examples = await (await ask("/api/examples")).json();
    $("example-results").replaceChildren();
    for (const [number, { url, result }] of examples.entries())
      await showPicture($("example-results"), `Example ${number + 1}`, await (await ask(url)).blob(), result);
  } catch (error) {
    say("model", error.message, true);
    $("example-results").replaceChildren(Object.assign(document.createElement("p"), { className: "problem", textContent: error.message }));
  }
}

// Not awaited here: these modules import this one, and wait for its end.
Promise.all([import("./photos.js"), import("./video.js"), import("./live.js"), start()]).then(() => (document.body.dataset.ready = "yes"));
