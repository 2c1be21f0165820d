// Scores over time: a line a machine, its threshold, alarms and changes of the bank; counts a day.
const STAMP = /(\d{4})-?(\d{2})-?(\d{2})[T_ -]?(\d{2})[-_:.h]?(\d{2})(?:[-_:.m]?(\d{2}))?/;
const DAY = 86400;

// Seconds since 1970 that a name says, as the watch reads it; null where it says none.
function timeOf(name) {
  const found = STAMP.exec(name);
  if (!found) return null;
  const [year, month, day, hour, minute, second] = found.slice(1).map((part) => Number(part || 0));
  const when = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  const same = when.getUTCMonth() === month - 1 && when.getUTCDate() === day && when.getUTCHours() === hour;
  return same && minute < 60 && second < 60 ? when.getTime() / 1000 : null;
}

const told = (time) => new Date(1000 * time).toISOString().slice(0, 16).replace("T", " ");

// Round steps of a clock and a calendar, s.
function timeTicks(low, high, count) {
  const steps = [
    60,
    300,
    900,
    3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    91 * DAY,
  ];
  const step = steps.find((one) => (high - low) / one <= count) || 365 * DAY;
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) found.push(tick);
  return found.map((tick) => [
    tick,
    told(tick).slice(step < DAY ? (high - low > DAY ? 5 : 11) : 5, step < DAY ? 16 : 10),
  ]);
}

// Points: {t, score, threshold, called, name, text, event, bank}.
function timeChart(title, points, pick) {
  const width = 920,
    height = 250,
    left = 56,
    bottom = 26;
  const times = points.map((p) => p.t),
    scores = points.filter((p) => p.score !== null);
  if (scores.length < 2 || Math.min(...times) === Math.max(...times)) return null;
  const limits = points.filter((p) => p.threshold !== null).map((p) => p.threshold);
  const values = [...scores.map((p) => p.score), ...limits];
  const low = values.reduce((a, b) => Math.min(a, b)),
    high = values.reduce((a, b) => Math.max(a, b));
  const first = times.reduce((a, b) => Math.min(a, b)),
    last = times.reduce((a, b) => Math.max(a, b));
  const x = scale(first, last, left, width - 8),
    y = scale(low, high, height - bottom, 22);
  const chart = frame(width, height, "time", `Scores of ${title} over time`);
  for (const tick of ticks(low, high, 4))
    chart.append(
      line(left, y(tick), width - 8, y(tick)),
      label(left - 6, y(tick) + 4, +tick.toPrecision(4), { "text-anchor": "end" }),
    );
  for (const [tick, text] of timeTicks(first, last, 8))
    chart.append(
      label(x(tick), height - 8, text, { "text-anchor": "middle" }),
      line(x(tick), height - bottom, x(tick), height - bottom + 4),
    );
  // An alarm lasts from where it was raised to where it was cleared.
  let began = null;
  const shade = (from, to) =>
    chart.append(
      svg("rect", {
        x: x(from),
        y: 22,
        width: Math.max(2, x(to) - x(from)),
        height: height - bottom - 22,
        style: "fill:var(--anomaly);fill-opacity:.13",
        class: "alarm",
      }),
    );
  for (const point of points) {
    if (point.event === "raised") began = point.t;
    if (point.event === "cleared" && began !== null) {
      shade(began, point.t);
      began = null;
    }
  }
  if (began !== null) shade(began, last);
  const steps = [];
  for (const point of points)
    if (point.threshold !== null) {
      if (steps.length && steps[steps.length - 1][1] !== y(point.threshold))
        steps.push([x(point.t), steps[steps.length - 1][1]]);
      steps.push([x(point.t), y(point.threshold)]);
    }
  chart.append(
    svg("path", { d: path(steps), style: "fill:none;stroke:var(--ink)", "stroke-dasharray": "4 3", class: "limit" }),
  );
  points.forEach((point, i) => {
    if (i && point.bank !== points[i - 1].bank)
      chart.append(
        line(x(point.t), 22, x(point.t), height - bottom, { style: "stroke:var(--source);stroke-width:1.5" }),
        label(x(point.t) + 3, 18, "bank changed", {
          class: "change",
          ...tipped(`${told(point.t)}: bank ${point.bank}`),
        }),
      );
    const text = `${told(point.t)}  ${point.name}: ${point.score === null ? "not judged" : number(point.score)}${point.text ? `. ${point.text}` : ""}`;
    chart.append(
      svg("circle", {
        cx: x(point.t).toFixed(1),
        cy: (point.score === null ? height - bottom : y(point.score)).toFixed(1),
        r: point.called ? 3 : 2,
        fill: `var(--${point.score === null ? "faint" : point.called ? "anomaly" : "soft"})`,
        "fill-opacity": point.called ? 0.9 : 0.6,
        style: pick ? "cursor:pointer" : null,
        onclick: pick ? () => pick(point) : null,
        ...tipped(text),
      }),
    );
    if (point.event === "raised" || point.event === "repeated")
      chart.append(
        svg("path", {
          d: `M${x(point.t) - 5},8 h10 l-5,10 Z`,
          style: "fill:var(--anomaly)",
          class: "raised",
          ...tipped(`${told(point.t)}: alarm ${point.event}. ${point.reason}`),
        }),
      );
  });
  return chart;
}

// Days: [[time of its begin, normal, abnormal, not judged, alarms], ...].
function dayTable(days) {
  const most = Math.max(...days.map((day) => day[1] + day[2] + day[3]));
  const bar = (count, tint) =>
    el("span", {
      style: `display:inline-block;height:.7em;width:${((160 * count) / most).toFixed(1)}px;background:var(--${tint})`,
    });
  return el(
    "div",
    { class: "list", tabindex: 0, role: "region", "aria-label": "Counts a day" },
    el(
      "table",
      { class: "days" },
      el(
        "thead",
        null,
        el(
          "tr",
          null,
          ["day", "clips", "abnormal", "not judged", "alarms", ""].map((text) => el("th", { scope: "col" }, text)),
        ),
      ),
      el(
        "tbody",
        null,
        days.map(([time, normal, abnormal, unjudged, alarms]) =>
          el(
            "tr",
            null,
            el("td", null, told(time).slice(0, 10)),
            [normal + abnormal + unjudged, abnormal, unjudged, alarms].map((count) => el("td", null, count)),
            el("td", { class: "text" }, bar(normal, "soft"), bar(abnormal, "anomaly"), bar(unjudged, "faint")),
          ),
        ),
      ),
    ),
  );
}

function dayCounts(points) {
  const days = new Map();
  for (const point of points) {
    const day = Math.floor(point.t / DAY) * DAY;
    const row = days.get(day) || [day, 0, 0, 0, 0];
    row[point.score === null || point.called === null ? 3 : point.called ? 2 : 1] += 1;
    row[4] += point.event === "raised";
    days.set(day, row);
  }
  return [...days.values()].sort((a, b) => a[0] - b[0]);
}

// Of clips whose names say when they were recorded.
function timeFigure(data, pick) {
  const cards = data.sections.map((section) => {
    const points = section.clips
      .map((clip) => ({
        t: timeOf(clip.name),
        score: clip.score,
        threshold: section.threshold,
        called: clip.called,
        name: clip.name,
        text: clip.difference ? clip.difference.sentence : "",
        event: "",
        bank: "",
        clip,
      }))
      .filter((point) => point.t !== null)
      .sort((a, b) => a.t - b.t);
    const chart = timeChart(section.label, points, (point) => pick(section, point.clip));
    return chart && el("div", { class: "card" }, el("h3", null, section.label), chart, dayTable(dayCounts(points)));
  });
  return cards.filter(Boolean);
}
