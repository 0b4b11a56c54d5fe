"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const colour = (i) => data.palette[i % data.palette.length];
const dashes = (i) => ["", "5 3", "2 2"][Math.floor(i / data.palette.length) % 3];
const safe = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const dot = (i) => `<span class="dot" style="background:${colour(i)}"></span>`;
const WIDTH = 340, HEIGHT = 220, LEFT = 52, RIGHT = 8, TOP = 27, BOTTOM = 27;

// A scale maps a value to a number that is drawn linearly; ticks are values.
const linear = { map: (v) => v, ticks: niceTicks };
const logarithmic = {
  map: (v) => (v > 0 ? Math.log10(v) : -Infinity),
  ticks: (low, high) => powers(low, high).map((p) => [p, `10<tspan dy="-6" font-size="10">${p}</tspan>`]),
};
const BEND = 0.1; // linear below, logarithmic above
const bent = {
  map: (v) => Math.asinh(v / BEND),
  ticks: (low, high) =>
    [-100, -10, -3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1, 3, 10, 100]
      .map((v) => [bent.map(v), String(v)]).filter(([y]) => y >= low && y <= high),
};

function niceTicks(low, high) {
  const rough = (high - low) / 6, unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * ([1, 2, 5].find((s) => s * unit >= rough) || 10), ticks = [];
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) ticks.push([n * step, (n * step).toFixed(digits)]);
  return ticks;
}

function powers(low, high) {
  const step = Math.max(1, Math.ceil((high - low) / 5)), found = [];
  for (let p = Math.ceil(low); p <= high; p++) if (p % step === 0) found.push(p);
  return found;
}

// lines: [{ x, y, colour, dash, width }]; y holds null where nothing was recorded.
function chart(title, lines, scale, range, xRange) {
  let [low, high] = range.map(scale.map);
  if (!(high > low)) { low -= 0.5; high += 0.5; }
  const margin = 0.04 * (high - low);
  low -= margin; high += margin;
  const px = (x) => LEFT + ((x - xRange[0]) / (xRange[1] - xRange[0] || 1)) * (WIDTH - LEFT - RIGHT);
  const py = (y) => HEIGHT - BOTTOM - ((y - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  let svg = `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${safe(title)}"><text class="title" x="${LEFT}" y="16">${safe(title)}</text>`;
  for (const [y, text] of scale.ticks(low, high)) {
    svg += `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${py(y)}" y2="${py(y)}" stroke="#e6e8ec"/>`;
    svg += `<text x="${LEFT - 5}" y="${py(y) + 4}" text-anchor="end">${text}</text>`;
  }
  for (const [x, text] of niceTicks(...xRange).filter(([, text]) => !text.includes("."))) {
    svg += `<text x="${px(x)}" y="${HEIGHT - 8}" text-anchor="middle">${text}</text>`;
  }
  svg += `<path d="M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}" fill="none" stroke="#9aa1ab"/>`;
  for (const line of lines) {
    let path = "", pen = "M";
    line.y.forEach((value, i) => {
      const y = value === null ? NaN : scale.map(value);
      if (Number.isNaN(y)) { pen = "M"; return; }
      path += `${pen}${px(line.x[i]).toFixed(1)} ${py(Math.max(low, Math.min(high, y))).toFixed(1)}`;
      pen = "L";
    });
    svg += `<path d="${path}" fill="none" stroke="${line.colour}" stroke-width="${line.width || 1.8}" stroke-dasharray="${line.dash || ""}" stroke-linejoin="round"/>`;
    if (line.x.length === 1 && path) svg += `<circle cx="${px(line.x[0])}" cy="${path.split(" ")[1]}" r="3" fill="${line.colour}"/>`;
  }
  return svg + "</svg>";
}

function range(values) { // not Math.min(...values), which fails for many
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

function extent(values) {
  const finite = values.flat(3).filter((v) => v !== null);
  return finite.length ? range(finite) : [0, 1];
}

function table() {
  const head = data.runs.map((run, i) => `<th>${dot(i)}${safe(run.name)}</th>`).join("");
  const rows = (group) => Object.entries(group).map(([name, values], i) =>
    `<tr class="${i ? "" : "first"}"><th>${safe(name)}</th>${values.map((v) => `<td>${safe(v)}</td>`).join("")}</tr>`).join("");
  $("table").innerHTML = `<thead><tr><th></th>${head}</tr></thead><tbody>${rows(data.outcomes)}${rows(data.differing)}</tbody>`;
}

function curves() {
  const titles = { loss: "loss", embedding_std: "embedding std", effective_rank: "effective rank", asymmetry: "asymmetry of W_p",
    online_linear: "online probe, %", knn: "k-NN while training, %", rankme: "RankMe", lidar: "LiDAR" };
  const epochs = extent(data.runs.map((run) => run.log.epoch));
  $("curves").innerHTML = Object.entries(titles).map(([name, title]) => {
    const lines = data.runs.map((run, i) => {
      const known = (_, place) => run.log[name][place] !== null; // some columns have values every few epochs
      return { x: run.log.epoch.filter(known), y: run.log[name].filter(known), colour: colour(i), dash: dashes(i) };
    });
    if (lines.every((line) => !line.x.length)) return "";
    return `<div class="card">${chart(title, lines, linear, extent(lines.map((l) => l.y)), epochs)}</div>`;
  }).join("");
}

const SPACES = [
  ["F", "eigenvalues of F", logarithmic],
  ["W", "eigenvalues of W_p", bent],
  ["alignment", "alignment of W_p with F's eigenvectors", linear],
];
const ranges = Object.fromEntries(SPACES.map(([key]) => [key, extent(data.runs.map((run) => run[key]))]));
const positive = data.runs.flatMap((run) => run.F.flat()).filter((v) => v !== null && v > 0);
const [lowest, highest] = range(positive);
ranges.F = positive.length ? [Math.max(lowest, 1e-8 * highest), highest] : [1e-3, 1];
ranges.alignment = [-1, 1];
const moments = [...new Set(data.runs.flatMap((run) => run.epochs))].sort((a, b) => a - b);

function spaces() {
  const epoch = moments[Number($("epoch").value)];
  $("shown").textContent = `${epoch} of ${moments[moments.length - 1]}`;
  $("spaces").innerHTML = data.runs.map((run, i) => {
    const row = run.epochs.filter((e) => e <= epoch).length - 1, last = run.epochs.length - 1;
    const charts = SPACES.map(([key, title, scale]) => {
      const x = run[key][last].map((_, j) => j);
      const lines = [{ x, y: run[key][last], colour: "#c3c8d0", width: 1.4 }];
      if (row >= 0) lines.push({ x, y: run[key][row], colour: colour(i) });
      return chart(title, lines, scale, ranges[key], [0, x.length - 1]);
    }).join("");
    const recorded = row < 0 ? "not recorded yet" : `recorded after epoch ${run.epochs[row]}`;
    return `<div class="card"><h3>${dot(i)}${safe(run.name)}</h3><p class="quiet">${recorded}</p>${charts}</div>`;
  }).join("");
}

table();
curves();
$("epoch").max = moments.length - 1;
$("epoch").value = moments.length - 1;
$("epoch").addEventListener("input", spaces);
spaces();
