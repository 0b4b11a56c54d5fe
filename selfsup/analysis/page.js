"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const count = data.names.length;
const canvas = $("map"), pen = canvas.getContext("2d"), stage = $("stage"), tip = $("tip");
const state = { map: Object.keys(data.maps)[0], thumbnails: count <= 400, only: null, chosen: -1, hovered: -1 };
const view = { scale: 1, x: 0, y: 0 };
const images = new Array(count);
let nearest = new Set(); // neighbours of the chosen image
const spans = {};
for (const [name, points] of Object.entries(data.maps)) {
  spans[name] = [0, 1].map((axis) => Math.max(1e-3, 2 * Math.max(...points.map((p) => Math.abs(p[axis] - 0.5)))));
}
let waiting = false, size = null;

const source = (i) => "data:image/jpeg;base64," + data.thumbnails[i];
const label = (i) => (data.labels ? data.labels[i] : -1);
const spoken = (i) => data.names[i].replaceAll("/", "/\u200b"); // may break after a folder
const colour = (l) => (l < 0 ? (data.labels ? "#9aa1ab" : data.palette[0]) : data.palette[l % data.palette.length]);
const shown = (i) => state.only === null || label(i) === state.only;

function shape(brush, l, x, y, r) {
  const kind = l < 0 ? 0 : Math.floor(l / data.palette.length) % 3;
  brush.beginPath();
  if (kind === 0) brush.arc(x, y, r, 0, 2 * Math.PI);
  else if (kind === 1) { brush.moveTo(x, y - 1.3 * r); brush.lineTo(x + 1.2 * r, y + r); brush.lineTo(x - 1.2 * r, y + r); }
  else brush.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r);
  brush.closePath();
}

function extent() {
  const width = canvas.clientWidth, height = canvas.clientHeight, margin = Math.min(34, 0.06 * width);
  const [spanX, spanY] = spans[state.map];
  let perX = (width - 2 * margin) / spanX, perY = (height - 2 * margin) / spanY;
  const least = Math.min(perX, perY); // the map is stretched to fill the canvas, at most by half
  perX = Math.min(perX, 1.5 * least);
  perY = Math.min(perY, 1.5 * least);
  return { width, height, perX, perY, area: perX * spanX * perY * spanY };
}

function place(i) {
  const { width, height, perX, perY } = size, [x, y] = data.maps[state.map][i];
  return [width / 2 + ((x - 0.5) * perX + view.x) * view.scale, height / 2 - ((y - 0.5) * perY - view.y) * view.scale];
}

function thumbnail(i) {
  if (!images[i]) {
    images[i] = new Image();
    images[i].onload = refresh;
    images[i].src = source(i);
  }
  return images[i];
}

function thumbnailSide() {
  return Math.min(72, Math.max(16, 0.75 * Math.sqrt(size.area / count)) * Math.sqrt(view.scale));
}

function drawOne(i, faint) {
  const [x, y] = place(i);
  if (x < -60 || y < -60 || x > canvas.clientWidth + 60 || y > canvas.clientHeight + 60) return;
  pen.globalAlpha = faint ? 0.12 : 1;
  const l = label(i), strong = i === state.chosen || i === state.hovered, near = nearest.has(i);
  const ready = state.thumbnails && thumbnail(i).complete && thumbnail(i).naturalWidth;
  if (ready) {
    const side = thumbnailSide() * (strong ? 1.35 : 1), edge = data.labels ? 2 : 1;
    pen.fillStyle = strong ? "#111" : data.labels ? colour(l) : "#fff";
    pen.fillRect(x - side / 2 - edge, y - side / 2 - edge, side + 2 * edge, side + 2 * edge);
    pen.drawImage(thumbnail(i), x - side / 2, y - side / 2, side, side);
  } else {
    shape(pen, l, x, y, (count > 800 ? 3.4 : 4.6) * Math.min(2, Math.pow(view.scale, 0.3)) * (strong ? 1.9 : near ? 1.35 : 1));
    pen.fillStyle = colour(l);
    pen.fill();
    pen.strokeStyle = strong || near ? "#111" : "#fff";
    pen.lineWidth = strong ? 2.5 : near ? 1.3 : 0.7;
    pen.stroke();
  }
  pen.globalAlpha = 1;
}

function draw() {
  waiting = false;
  size = extent();
  const ratio = window.devicePixelRatio || 1, { width, height } = size;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  for (let i = 0; i < count; i++) if (!shown(i)) drawOne(i, true);
  for (let i = 0; i < count; i++) if (shown(i)) drawOne(i, false);
  if (state.chosen >= 0) {
    const [x, y] = place(state.chosen);
    pen.lineWidth = 1.2;
    pen.strokeStyle = "#1118";
    for (const j of data.neighbours[state.chosen]) {
      const [u, v] = place(j);
      pen.beginPath(); pen.moveTo(x, y); pen.lineTo(u, v); pen.stroke();
    }
    for (const j of data.neighbours[state.chosen]) drawOne(j, false);
    drawOne(state.chosen, false);
  }
  if (state.hovered >= 0) drawOne(state.hovered, false);
}

function refresh() {
  if (!waiting) { waiting = true; requestAnimationFrame(draw); }
}

function below(event) {
  const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
  let best = -1, least = Math.pow(state.thumbnails ? Math.max(14, thumbnailSide() / 1.4) : 14, 2);
  for (let i = 0; i < count; i++) {
    if (!shown(i)) continue;
    const [x, y] = place(i), d = (x - px) * (x - px) + (y - py) * (y - py);
    if (d < least) { least = d; best = i; }
  }
  return best;
}

function describeClass(element, i) {
  element.textContent = label(i) < 0 ? "" : data.classes[label(i)];
}

function hover(i) {
  if (i === state.hovered) return;
  state.hovered = i;
  canvas.style.cursor = i >= 0 ? "pointer" : "grab";
  tip.style.display = i >= 0 ? "block" : "none";
  if (i >= 0) {
    const image = document.createElement("img"), name = document.createElement("div"), kind = document.createElement("b");
    image.src = source(i);
    image.alt = "";
    name.textContent = spoken(i);
    describeClass(kind, i);
    tip.replaceChildren(image, kind, name);
    const [x, y] = place(i), { width, height } = size;
    tip.style.left = (x + 16 + 150 > width ? Math.max(4, x - 166) : x + 16) + "px";
    tip.style.top = Math.max(4, Math.min(y - 40, height - tip.offsetHeight - 6)) + "px";
  }
  refresh();
}

function choose(i) {
  if (i < 0) return;
  state.chosen = i;
  $("large").src = source(i);
  $("name").textContent = spoken(i);
  describeClass($("class"), i);
  nearest = new Set(data.neighbours[i]);
  const near = data.neighbours[i], same = near.filter((j) => label(j) === label(i)).length;
  $("agree").textContent = label(i) < 0 ? "" : `${same} of the ${near.length} nearest are of this class`;
  $("near").replaceChildren(...near.map((j, rank) => {
    const item = document.createElement("li"), button = document.createElement("button"), image = document.createElement("img");
    image.src = source(j);
    image.alt = data.names[j];
    button.title = data.names[j] + (label(j) < 0 ? "" : ` (${data.classes[label(j)]})`);
    button.style.setProperty("--own", data.labels ? colour(label(j)) : "transparent");
    button.append(image, data.cosines[i][rank].toFixed(3));
    button.onclick = () => choose(j);
    item.append(button);
    return item;
  }));
  history.replaceState(null, "", "#" + i);
  refresh();
}

function zoom(factor, px = size.width / 2, py = size.height / 2) {
  const { width, height } = size, scale = Math.min(60, Math.max(0.8, view.scale * factor));
  view.x += (px - width / 2) * (1 / scale - 1 / view.scale);
  view.y += (py - height / 2) * (1 / scale - 1 / view.scale);
  view.scale = scale;
  hover(-1);
  refresh();
}

function choices(element, options, isOn, pick) {
  const buttons = options.map((option) => {
    const button = document.createElement("button");
    button.textContent = option;
    button.onclick = () => { pick(option); mark(); hover(-1); refresh(); };
    return button;
  });
  const mark = () => buttons.forEach((button, k) => button.setAttribute("aria-pressed", isOn(options[k])));
  element.append(...buttons);
  mark();
}

choices($("maps"), Object.keys(data.maps), (name) => state.map === name, (name) => { state.map = name; });
choices($("styles"), ["dots", "images"], (name) => state.thumbnails === (name === "images"),
  (name) => { state.thumbnails = name === "images"; });

if (data.labels) {
  const buttons = data.classes.map((name, l) => {
    const button = document.createElement("button"), mark = document.createElement("canvas");
    mark.width = mark.height = 24;
    const brush = mark.getContext("2d");
    shape(brush, l, 12, 12, 8);
    brush.fillStyle = colour(l);
    brush.fill();
    button.append(mark, name);
    button.setAttribute("aria-pressed", false);
    button.onclick = () => {
      state.only = state.only === l ? null : l;
      buttons.forEach((other, k) => other.setAttribute("aria-pressed", state.only === k));
      refresh();
    };
    return button;
  });
  $("legend").append(...buttons);
} else $("legend").remove();

let drag = null;
canvas.onpointerdown = (event) => {
  drag = { x: event.clientX, y: event.clientY, moved: false };
  if (event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
};
canvas.onpointermove = (event) => {
  if (!drag) { if (event.pointerType === "mouse") hover(below(event)); return; }
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  drag = { x: event.clientX, y: event.clientY, moved: true };
  view.x += dx / view.scale;
  view.y += dy / view.scale;
  hover(-1);
  refresh();
};
canvas.onpointerup = (event) => {
  if (drag && !drag.moved) choose(below(event));
  drag = null;
};
canvas.onpointercancel = () => { drag = null; };
canvas.onpointerleave = () => hover(-1);
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
$("closer").onclick = () => zoom(1.6);
$("farther").onclick = () => zoom(1 / 1.6);
$("whole").onclick = () => { Object.assign(view, { scale: 1, x: 0, y: 0 }); hover(-1); refresh(); };
new ResizeObserver(refresh).observe(stage);
size = extent();

const wanted = parseInt(location.hash.slice(1), 10);
choose(wanted >= 0 && wanted < count ? wanted : 0);
