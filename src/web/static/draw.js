// What is drawn: pictures with boxes, lists of faces, timelines. Colours are those of the server.
let colours = {};
const GAP_S = 0.5; // a face unseen for longer starts a new segment

export const percent = (value) => `${Math.round(100 * value)} %`;

export function sentence(faces) {
  if (!faces.length) return "No face was found.";
  const shown = faces.slice(0, 8).map((face) => `${face.face_id} ${face.expression} ${percent(face.confidence)}`);
  return `${faces.length} face${faces.length > 1 ? "s" : ""}: ${shown.join(", ")}${faces.length > 8 ? ", …" : ""}`;
}

export function legend(given) {
  colours = given;
  for (const place of document.querySelectorAll(".legend"))
    place.replaceChildren(...Object.entries(colours).map(([name, colour]) => {
      const entry = document.createElement("span"), patch = document.createElement("i");
      patch.style.background = colour;
      entry.append(patch, name);
      return entry;
    }));
}

function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b > 120 ? "#000" : "#fff";
}

const blocks = Object.assign(document.createElement("canvas"), { width: 6, height: 6 });

/** 6 x 6 blocks of one colour each, hair and chin included, as in the live program. */
function hide(pen, canvas, [x, y, width, height]) {
  const left = Math.max(0, Math.floor(x - 0.2 * width)), top = Math.max(0, Math.floor(y - 0.2 * height));
  const right = Math.min(canvas.width, Math.ceil(x + 1.2 * width)), bottom = Math.min(canvas.height, Math.ceil(y + 1.2 * height));
  if (right <= left || bottom <= top) return;
  blocks.getContext("2d").drawImage(canvas, left, top, right - left, bottom - top, 0, 0, 6, 6);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(blocks, 0, 0, 6, 6, left, top, right - left, bottom - top);
  pen.imageSmoothingEnabled = true;
}

/** The picture, faces hidden first where asked for, then boxes and labels. */
export function paint(canvas, image, result, { blur = false, mirror = false } = {}) {
  const { width, height } = result;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d"), unit = Math.max(width, height) / 640;
  pen.save();
  if (mirror) pen.setTransform(-1, 0, 0, 1, width, 0);
  pen.drawImage(image, 0, 0, width, height);
  pen.restore();
  const left = (x, w) => (mirror ? width - x - w : x);
  if (blur) for (const [x, y, w, h] of result.hidden) hide(pen, canvas, [left(x, w), y, w, h]);
  pen.textBaseline = "top";
  for (const face of result.faces) {
    const x = left(face.x, face.width), colour = colours[face.expression];
    const text = face.expression === "uncertain" ? `${face.face_id} uncertain` : `${face.face_id} ${face.expression} ${percent(face.confidence)}`;
    const size = Math.max(8, Math.min(16 * unit, face.width / 5)), pad = size / 3;
    Object.assign(pen, { lineWidth: Math.max(2, 2.5 * unit), strokeStyle: colour, font: `600 ${size}px system-ui, sans-serif` });
    pen.strokeRect(x, face.y, face.width, face.height);
    const wide = pen.measureText(text).width + 2 * pad, high = size + 2 * pad;
    const at = Math.max(0, Math.min(x, width - wide)), top = face.y >= high ? face.y - high : Math.min(face.y + face.height, height - high);
    pen.fillStyle = colour;
    pen.fillRect(at, top, wide, high);
    pen.fillStyle = inkOn(colour);
    pen.fillText(text, at + pad, top + pad);
  }
}

/** A list item per face: what it shows, and all seven probabilities. At most 50; their nodes are used again. */
export function faceItems(list, faces) {
  const shown = faces.slice(0, 50), names = Object.keys(colours).filter((name) => name !== "uncertain");
  while (list.children.length > shown.length) list.lastChild.remove();
  while (list.children.length < shown.length) {
    const item = document.createElement("li"), bars = Object.assign(document.createElement("ul"), { className: "bars" });
    for (const name of names) {
      const bar = document.createElement("li"), track = document.createElement("span"), fill = document.createElement("i");
      fill.style.background = colours[name];
      track.append(fill);
      bar.append(Object.assign(document.createElement("span"), { textContent: name }), track, document.createElement("span"));
      bars.append(bar);
    }
    item.append(document.createElement("strong"), bars);
    list.append(item);
  }
  for (const [number, face] of shown.entries()) {
    const item = list.children[number], bars = item.querySelectorAll(".bars li");
    item.style.borderTopColor = colours[face.expression];
    item.firstChild.textContent = `Face ${face.face_id}: ${face.expression}, ${percent(face.confidence)}`;
    for (const [index, name] of names.entries()) {
      bars[index].querySelector("i").style.width = percent(face[name]).replace(" ", "");
      bars[index].lastChild.textContent = percent(face[name]);
    }
  }
}

/** Segments of one expression per face, from rows in order of time. */
export class Timeline {
  faces = new Map(); // face_id -> [{ expression, start, end }]
  #before = 0;

  add(time, faces) {
    const since = Math.min(this.#before, time - GAP_S) - 1e-6; // a face of the frame before is no gap
    this.#before = time;
    for (const face of faces) {
      if (!this.faces.has(face.face_id)) this.faces.set(face.face_id, []);
      const segments = this.faces.get(face.face_id), last = segments.at(-1);
      if (last && last.end >= since) last.end = time;
      if (!last || last.end < since || last.expression !== face.expression) segments.push({ expression: face.expression, start: time, end: time });
    }
  }

  forget(before) {
    for (const [number, segments] of this.faces) if (segments.at(-1).end < before) this.faces.delete(number);
  }

  /** Rows of the given faces from `start` to `end` seconds. */
  draw(canvas, numbers, start, end, label) {
    const width = Math.max(280, canvas.parentElement.clientWidth), row = 24, left = 34, pen = canvas.getContext("2d");
    canvas.width = width;
    canvas.height = numbers.length * row + 22;
    const ink = getComputedStyle(canvas).color, x = (time) => left + ((width - left - 4) * (time - start)) / Math.max(end - start, 1e-3);
    Object.assign(pen, { font: "13px system-ui, sans-serif", textBaseline: "middle" });
    for (const [index, number] of numbers.entries()) {
      pen.fillStyle = ink;
      pen.fillText(`${number}`, 4, index * row + row / 2);
      for (const { expression, start: from, end: to } of this.faces.get(number) ?? []) {
        if (to < start) continue;
        pen.fillStyle = colours[expression];
        pen.fillRect(x(Math.max(from, start)), index * row + 4, Math.max(1, x(to) - x(Math.max(from, start))), row - 8);
      }
    }
    pen.fillStyle = ink;
    for (let step = 0; step <= 4; step++) {
      const text = label(start + ((end - start) * step) / 4);
      pen.fillText(text, Math.min(width - pen.measureText(text).width, x(start + ((end - start) * step) / 4)), canvas.height - 9);
    }
  }
}
