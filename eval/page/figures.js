// The figures: table, distributions, ROC, domains, data sets, map.
function resultTable(data) {
  const known = data.sections.filter((section) => section.figures);
  const columns = [
    { title: "machine", text: true, value: (s) => s.machine, cell: (s) => s.machine },
    { title: "section", text: true, value: (s) => s.number, cell: (s) => String(s.number).padStart(2, "0") },
    ...(known.some((s) => s.set !== known[0].set)
      ? [{ title: "data", text: true, value: (s) => s.set, cell: (s) => s.set }]
      : []),
    ...data.columns.map(([name, title]) => ({
      title,
      value: (s) => s.figures[name],
      cell: (s) => [percent(s.figures[name]), el("small", null, span(s.intervals[name]))],
    })),
  ];
  const blank = columns.length - data.columns.length - 1;
  const foot = el(
    "tfoot",
    null,
    el(
      "tr",
      null,
      el("td", { class: "text" }, data.rule.mean),
      Array.from({ length: blank }, () => el("td")),
      data.columns.map(([name]) => el("td", null, percent(data.means[name]))),
    ),
  );
  const made = sortable(columns, known, {
    sort: columns[0],
    down: false,
    foot,
    row: (_s, cells) => el("tr", null, cells),
  });
  made.show(known);
  return el("div", { class: "card scroll" }, made.table);
}

function strips(section, pick) {
  const rows = [];
  for (const domain of ["source", "target", null]) {
    for (const condition of ["normal", "anomaly", null]) {
      const clips = section.clips.filter((c) => c.domain === domain && c.condition === condition);
      if (clips.length) rows.push({ clips, name: [domain, condition].filter(Boolean).join(" ") || "clips" });
    }
  }
  const width = 350,
    left = 92,
    height = 26 + rows.length * 34;
  const scores = section.clips.map((c) => c.score);
  let low = Math.min(...scores),
    high = Math.max(...scores);
  if (section.threshold !== null) {
    low = Math.min(low, section.threshold);
    high = Math.max(high, section.threshold);
  }
  const x = scale(low, high, left + 6, width - 8);
  const chart = frame(width, height, "strip", `Scores of ${section.label}`);
  for (const tick of ticks(low, high, 4)) {
    chart.append(
      line(x(tick), 4, x(tick), height - 22),
      label(x(tick), height - 8, String(+tick.toPrecision(6)), { "text-anchor": "middle" }),
    );
  }
  rows.forEach((row, i) => {
    const y = 20 + i * 34;
    chart.append(label(left - 6, y + 4, row.name, { "text-anchor": "end" }));
    for (const clip of row.clips) {
      chart.append(
        svg("circle", {
          cx: x(clip.score).toFixed(1),
          cy: (y + 10 * jitter(clip.name)).toFixed(1),
          r: 2.4,
          fill: `var(--${tone(clip)})`,
          "fill-opacity": 0.55,
          style: "cursor:pointer",
          onclick: () => pick(section, clip),
          ...tipped(`${clip.name}: ${number(clip.score)}`),
        }),
      );
    }
    const middle = x(median(row.clips.map((c) => c.score)));
    chart.append(line(middle, y - 13, middle, y + 13, { style: "stroke:var(--ink);stroke-width:2" }));
  });
  if (section.threshold !== null) {
    const at = x(section.threshold);
    chart.append(line(at, 0, at, height - 22, { style: "stroke:var(--ink)", "stroke-dasharray": "3 3" }));
  }
  return chart;
}

function rocChart(section) {
  const size = 190,
    pad = 26;
  const x = scale(0, 1, pad, size - 4),
    y = scale(0, 1, size - pad, 4);
  const chart = frame(size, size, "roc", `ROC of ${section.label}`);
  const both = (section.roc.auc || []).map(([a, b]) => [x(a), y(b)]);
  const clip = [];
  for (let i = 0; i < both.length; i++) {
    const [px, py] = both[i];
    if (px <= x(0.1)) {
      clip.push([px, py]);
      continue;
    }
    const [qx, qy] = both[i - 1];
    clip.push([x(0.1), qy + ((py - qy) * (x(0.1) - qx)) / (px - qx)]);
    break;
  }
  if (clip.length)
    chart.append(svg("path", { d: `${path([[x(0), y(0)], ...clip, [x(0.1), y(0)]])}Z`, style: "fill:var(--shade)" }));
  chart.append(
    svg("path", {
      d: path([
        [x(0), y(1)],
        [x(0), y(0)],
        [x(1), y(0)],
      ]),
      class: "axis",
    }),
    line(x(0), y(0), x(1), y(1), { "stroke-dasharray": "2 4", style: "stroke:var(--faint)" }),
  );
  for (const [name, tint] of [
    ["auc", "ink"],
    ["auc_source", "source"],
    ["auc_target", "target"],
  ]) {
    if (!section.roc[name]) continue;
    chart.append(
      svg("path", {
        d: path(section.roc[name].map(([a, b]) => [x(a), y(b)])),
        style: `fill:none;stroke:var(--${tint});stroke-width:1.6`,
      }),
    );
  }
  chart.append(
    label((x(0) + x(1)) / 2, size - 8, "false positive rate", { "text-anchor": "middle" }),
    label(12, (y(0) + y(1)) / 2, "true positive rate", {
      "text-anchor": "middle",
      transform: `rotate(-90 12 ${(y(0) + y(1)) / 2})`,
    }),
    label(x(0) - 4, y(0) + 12, "0"),
    label(x(1), y(0) + 12, "1", { "text-anchor": "end" }),
    label(x(0.1), y(0) + 12, ".1", { "text-anchor": "middle" }),
  );
  return chart;
}

function domainChart(data) {
  const shown = data.sections.filter(
    (s) => s.figures && s.figures.auc_source !== null && s.figures.auc_target !== null,
  );
  if (!shown.length) return null;
  const ends = shown.flatMap((s) => ["auc_source", "auc_target"].flatMap((n) => s.intervals[n] || [s.figures[n]]));
  const low = Math.max(0, Math.floor(Math.min(0.5, ...ends) * 20) / 20),
    size = 340,
    pad = 40;
  const x = scale(low, 1, pad, size - 10),
    y = scale(low, 1, size - pad, 10);
  const chart = frame(size, size, "domains", "Source against target AUC");
  for (const tick of ticks(low, 1, 5)) {
    chart.append(
      line(x(tick), 10, x(tick), size - pad),
      line(pad, y(tick), size - 10, y(tick)),
      label(x(tick), size - pad + 15, (100 * tick).toFixed(0), { "text-anchor": "middle" }),
      label(pad - 6, y(tick) + 4, (100 * tick).toFixed(0), { "text-anchor": "end" }),
    );
  }
  chart.append(
    line(x(low), y(low), x(1), y(1), { "stroke-dasharray": "2 4", style: "stroke:var(--faint)" }),
    label((pad + size) / 2, size - 6, "AUC source, %", { "text-anchor": "middle" }),
    label(12, size / 2, "AUC target, %", { "text-anchor": "middle", transform: `rotate(-90 12 ${size / 2})` }),
  );
  for (const s of shown) {
    const a = s.figures.auc_source,
      b = s.figures.auc_target,
      i = s.intervals;
    const stroke = { style: "stroke:var(--source);stroke-opacity:.35" };
    if (i.auc_source) chart.append(line(x(i.auc_source[0]), y(b), x(i.auc_source[1]), y(b), stroke));
    if (i.auc_target) chart.append(line(x(a), y(i.auc_target[0]), x(a), y(i.auc_target[1]), stroke));
    const right = x(a) > size * 0.62;
    chart.append(
      svg("circle", {
        cx: x(a),
        cy: y(b),
        r: 4.5,
        fill: "var(--source)",
        ...tipped(`${s.label}: source ${percent(a)}, target ${percent(b)}`),
      }),
      label(x(a) + (right ? -8 : 8), y(b) - 7, s.machine, { "text-anchor": right ? "end" : "start", class: "mark" }),
    );
  }
  return el(
    "div",
    { class: "card" },
    el("h3", null, "Source against target"),
    el(
      "p",
      { class: "soft small" },
      "Below the dotted line a machine is harder in the target domain, of which only a few normal clips were known. Crosses: bootstrap intervals.",
    ),
    chart,
  );
}

function dataSetChart(data) {
  const sets = ["development", "evaluation"].map((name) => data.sections.filter((s) => s.set === name && s.figures));
  if (!sets.every((some) => some.length)) return null;
  const mean = (some, name) => {
    const values = some.map((s) => s.figures[name]);
    if (values.includes(null)) return null;
    return data.rule.mean.startsWith("harmonic")
      ? values.length / values.reduce((sum, v) => sum + 1 / v, 0)
      : values.reduce((sum, v) => sum + v, 0) / values.length;
  };
  const rows = data.columns
    .map(([name, title]) => [title, ...sets.map((some) => mean(some, name))])
    .filter((r) => r[1] !== null && r[2] !== null);
  const width = 340,
    left = 92,
    height = 30 + rows.length * 34;
  const x = scale(0, 1, left, width - 12);
  const chart = frame(width, height, "sets", "Development against evaluation");
  for (const tick of [0, 0.25, 0.5, 0.75, 1])
    chart.append(
      line(x(tick), 4, x(tick), height - 22),
      label(x(tick), height - 6, (100 * tick).toFixed(0), { "text-anchor": "middle" }),
    );
  rows.forEach(([title, dev, test], i) => {
    const y = 22 + i * 34;
    chart.append(
      label(left - 8, y + 4, title, { "text-anchor": "end" }),
      line(x(dev), y, x(test), y, { style: "stroke:var(--faint);stroke-width:2" }),
      svg("circle", {
        cx: x(dev),
        cy: y,
        r: 5,
        fill: "var(--normal)",
        ...tipped(`${title}, development: ${percent(dev)}`),
      }),
      svg("circle", {
        cx: x(test),
        cy: y,
        r: 5,
        fill: "var(--target)",
        ...tipped(`${title}, evaluation: ${percent(test)}`),
      }),
    );
  });
  return el(
    "div",
    { class: "card" },
    el("h3", null, "Development against evaluation"),
    el(
      "p",
      { class: "soft small" },
      `${data.rule.mean[0].toUpperCase()}${data.rule.mean.slice(1)} over the machines of each set, %.`,
    ),
    chart,
    legend([
      [`development, ${sets[0].length} of the sections`, "normal"],
      [`evaluation, ${sets[1].length}`, "target"],
    ]),
  );
}

const PALETTE = ["#2b6cb0", "#b7791f", "#4a8a84", "#c53030", "#805ad5", "#d53f8c", "#38a169", "#718096"];

function mapFigure(data, pick) {
  const shown = data.sections.filter((section) => section.map);
  const canvas = el("canvas", { role: "img", "aria-label": "Map of the embeddings" });
  const which = el(
    "select",
    { "aria-label": "Machine", onchange: () => offer() },
    shown.map((s, i) => el("option", { value: i }, s.label)),
  );
  const by = el("select", { "aria-label": "Colour", onchange: () => draw() });
  const key = el("div");
  const names = { domain: 3, condition: 4, split: 2 };
  const value = (point) => {
    const own = by.value in names ? point[names[by.value]] : point[5]?.[by.value.slice(1)];
    return own === null || own === undefined ? "unknown" : own;
  };
  const place = () => {
    const points = shown[which.value].map.points,
      box = canvas.getBoundingClientRect();
    const ends = (axis) => [Math.min(...points.map((p) => p[axis])), Math.max(...points.map((p) => p[axis]))];
    return { points, x: scale(...ends(0), 14, box.width - 14), y: scale(...ends(1), box.height - 14, 14), box };
  };
  function offer() {
    const more = new Set(shown[which.value].map.points.flatMap((p) => Object.keys(p[5] || {})));
    by.replaceChildren(
      ...Object.keys(names).map((name) => el("option", { value: name }, name === "split" ? "train or test" : name)),
      ...[...more].sort().map((name) => el("option", { value: `.${name}` }, `attribute: ${name}`)),
    );
    draw();
  }
  function draw() {
    const { points, x, y, box } = place(),
      ratio = devicePixelRatio || 1;
    canvas.width = box.width * ratio;
    canvas.height = box.height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const kinds = [...new Set(points.map(value))].sort();
    const fixed = {
      source: color("source"),
      target: color("target"),
      normal: color("normal"),
      anomaly: color("anomaly"),
      unknown: color("faint"),
      train: color("faint"),
      test: color("source"),
    };
    const tint = (kind) => fixed[kind] || PALETTE[kinds.indexOf(kind) % PALETTE.length];
    for (const split of ["train", "test"])
      for (const point of points) {
        if (point[2] !== split) continue;
        pen.beginPath();
        pen.arc(x(point[0]), y(point[1]), split === "train" ? 2.6 : 4, 0, 7);
        pen.globalAlpha = split === "train" ? 0.45 : 0.85;
        pen.fillStyle = pen.strokeStyle = tint(value(point));
        if (split === "train") pen.fill();
        else {
          pen.lineWidth = 1.6;
          pen.stroke();
        }
      }
    key.replaceChildren(
      el(
        "div",
        { class: "legend" },
        kinds.slice(0, 12).map((kind) => el("span", null, el("i", { style: `background:${tint(kind)}` }), kind)),
        el("span", null, "small dots: training clips, rings: test clips"),
      ),
    );
  }
  const nearest = (event) => {
    const { points, x, y, box } = place();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = null,
      least = 144;
    for (const point of points) {
      const d = (x(point[0]) - px) ** 2 + (y(point[1]) - py) ** 2;
      if (d < least) {
        least = d;
        best = point;
      }
    }
    return best;
  };
  canvas.addEventListener("mousemove", (event) => {
    const point = nearest(event);
    if (point) showTip(event, `${point[6]} (${value(point)})`);
    else hideTip();
  });
  canvas.addEventListener("mouseleave", hideTip);
  canvas.addEventListener("click", (event) => {
    const point = nearest(event),
      section = shown[which.value];
    const clip = point && point[2] === "test" && section.clips.find((c) => c.name === point[6].split("/").pop());
    if (clip) pick(section, clip);
  });
  addEventListener("resize", draw);
  document.addEventListener("themechange", draw);
  requestAnimationFrame(offer);
  const method = shown[0].map.method === "umap" ? "UMAP" : "the first two principal components";
  return [
    el(
      "p",
      { class: "soft" },
      `Training and test clips in ${method} of the standardised embeddings. Click a ring to listen.`,
    ),
    el("div", { class: "tools" }, which, el("label", { class: "soft" }, "colour by "), by),
    el("div", { class: "card map" }, canvas, key),
  ];
}
