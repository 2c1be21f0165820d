"use strict";
// Elements from plain calls. Whatever comes from the data is a text node or an attribute's value,
// never markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(2));
const span = (pair) => (pair ? `${(100 * pair[0]).toFixed(1)}–${(100 * pair[1]).toFixed(1)}` : "");
const number = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e5 || size < 1e-3) ? value.toExponential(2) : value.toPrecision(4);
};
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const tip = document.getElementById("tip");
function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - box.height - 8)}px`;
}
const hideTip = () => {
  tip.hidden = true;
};
const tipped = (text) => ({ onmousemove: (event) => showTip(event, text), onmouseleave: hideTip });

// A table whose header cells sort it. Columns: {title, text, value(row), cell(row)}.
function sortable(columns, rows, options) {
  const body = el("tbody");
  const heads = columns.map((column) =>
    el(
      "th",
      { class: column.text ? "text" : null, scope: "col" },
      el("button", { type: "button", onclick: () => sort(column) }, column.title),
    ),
  );
  const state = { column: options.sort, down: options.down, rows };
  function draw() {
    const sign = state.down ? -1 : 1;
    const key = state.column.value;
    const sorted = [...state.rows].sort((a, b) => sign * order(key(a), key(b)));
    for (const [i, head] of heads.entries())
      head.setAttribute("aria-sort", columns[i] === state.column ? (state.down ? "descending" : "ascending") : "none");
    body.replaceChildren(
      ...sorted.map((row) =>
        options.row(
          row,
          columns.map((column) => el("td", { class: column.text ? "text" : null }, column.cell(row))),
        ),
      ),
    );
    if (!sorted.length && options.none)
      body.replaceChildren(
        el("tr", { class: "nothing" }, el("td", { class: "text", colspan: columns.length }, options.none)),
      );
    if (options.after) options.after(sorted);
  }
  function sort(column) {
    state.down = column === state.column ? !state.down : !column.text;
    state.column = column;
    draw();
  }
  const table = el("table", null, el("thead", null, el("tr", null, heads)), body, options.foot || null);
  return {
    table,
    body,
    show: (some) => {
      state.rows = some;
      draw();
    },
  };
}

// Missing values last, whichever way.
function order(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  return a < b ? -1 : 1;
}
