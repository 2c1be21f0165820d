// Scales, axes and marks that the figures share.
function scale(low, high, from, to) {
  const width = high - low || 1;
  return (value) => from + ((value - low) / width) * (to - from);
}

function ticks(low, high, count) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) found.push(tick);
  return found.map((tick) => Math.round(tick / step) * step);
}

function frame(width, height, name, title) {
  return svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    class: name,
    role: "img",
    "aria-label": title,
  });
}

const line = (x1, y1, x2, y2, attributes) => svg("line", { x1, y1, x2, y2, class: "axis", ...attributes });
const label = (x, y, text, attributes) => svg("text", { x, y, ...attributes }, text);
const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)},${y.toFixed(2)}`).join("");

// A place between -1 and 1 that depends on the clip's name alone, so that a page always looks the same.
function jitter(name) {
  let hash = 2166136261;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619);
  return ((hash >>> 8) % 2001) / 1000 - 1;
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length % 2
    ? sorted[(sorted.length - 1) / 2]
    : (sorted[sorted.length / 2 - 1] + sorted[sorted.length / 2]) / 2;
};

function legend(entries) {
  return el(
    "div",
    { class: "legend" },
    entries.map(([text, tone]) => el("span", null, el("i", { style: `background:var(--${tone})` }), text)),
  );
}

const tone = (clip) =>
  clip.condition === "anomaly" ? "anomaly" : clip.condition === "normal" ? "normal" : clip.called ? "anomaly" : "soft";
