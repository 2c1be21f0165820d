// Puts the page together from the data beside it.
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const parts = [];

function part(id, title, text, ...children) {
  const nodes = children.flat().filter(Boolean);
  if (!nodes.length) return;
  parts.push([id, title]);
  main.append(el("section", { id }, el("h2", null, title), text ? el("p", { class: "soft" }, text) : null, nodes));
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  document.dispatchEvent(new Event("themechange"));
}

function header() {
  const clips = data.sections.reduce((sum, s) => sum + s.clips.length, 0);
  const known = data.sections.filter((s) => s.figures).length;
  const facts = [
    `${clips} ${clips === 1 ? "clip" : "clips"} judged`,
    known === data.sections.length ? "truth known" : known ? `truth known of ${known}` : "truth unknown",
    data.part,
    data.proxy,
    data.transductive && "transductive: scores use the test set's own statistics",
  ];
  const machines = [...new Set(data.sections.map((s) => s.machine))];
  const title = machines.length > 3 ? `${machines.length} machines` : machines.join(", ");
  document.title = `${title} – report`;
  const big =
    data.official === null
      ? null
      : el(
          "div",
          { class: "big" },
          el("b", { id: "official" }, percent(data.official)),
          el(
            "div",
            { class: "soft small" },
            `official score, %${[data.proxy, data.part]
              .filter(Boolean)
              .map((mark) => ` (${mark})`)
              .join("")}`,
          ),
          data.bootstrap
            ? el("div", { class: "soft small" }, `${(100 * data.level).toFixed(0)} % interval ${span(data.bootstrap)}`)
            : null,
        );
  fill(document.getElementById("top"), null, [
    el(
      "div",
      { class: "name" },
      el("h1", null, title),
      el("div", { class: "soft" }, facts.filter(Boolean).join(" · ")),
    ),
    big,
  ]);
}

function verdictCard(section, choose) {
  const called = section.clips.filter((c) => c.called === 1).length;
  const share = (100 * called) / section.clips.length;
  return el(
    "button",
    { class: "card verdict", type: "button", onclick: () => choose(section) },
    el("div", { class: "machine" }, section.label, section.set ? ` · ${section.set}` : ""),
    el("div", { class: "head" }, section.headline),
    section.clips.length > 1 && section.clips.some((c) => c.called !== null)
      ? el("div", { class: "bar" }, el("i", { style: `width:${share.toFixed(1)}%` }))
      : null,
    el("div", { class: "soft" }, section.detail),
    section.figures
      ? el(
          "div",
          { class: "figs" },
          data.parts.map((name) =>
            el(
              "span",
              null,
              `${data.columns.find(([n]) => n === name)[1]} `,
              el("b", null, percent(section.figures[name])),
            ),
          ),
        )
      : null,
  );
}

function facts() {
  const rows = [["system", data.title], ["rule", `${data.rule.year}: ${data.rule.source}`], ...data.facts];
  if (data.bootstrap)
    rows.push([
      "intervals",
      `${(100 * data.level).toFixed(0)} %, clips resampled within section, domain and condition; bootstrap ${span(data.bootstrap)}` +
        (data.jackknife ? `, jackknife ${span(data.jackknife)}` : ""),
    ]);
  return el(
    "dl",
    null,
    rows.map(([name, value]) => [el("dt", null, name), el("dd", { class: "mono" }, value)]),
  );
}

document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
header();
const browser = clipBrowser(data);
const pick = (section, clip) => browser.pick(section, clip);
const known = data.sections.filter((section) => section.figures);
const many = data.sections.some((section) => section.clips.length > 2);

part(
  "verdict",
  "Verdict",
  null,
  el(
    "div",
    { class: "cards" },
    data.sections.map((section) =>
      verdictCard(section, (chosen) => {
        browser.machine(data.sections.length > 1 ? chosen.id : "");
        document.getElementById("listen").scrollIntoView();
      }),
    ),
  ),
);
part(
  "listen",
  "Listen",
  [
    data.sections.length > 1
      ? "The clip that lies farthest above its machine's threshold stands first."
      : "The clip that sounds most abnormal stands first.",
    " Beside it: the normal recordings nearest to it, and what is different.",
  ],
  browser.node,
);
part(
  "results",
  "Official figures",
  "In %, with bootstrap intervals below each. AUC of a domain, partial AUC, and F1 of the decisions.",
  known.length ? resultTable(data) : null,
);
part(
  "scores",
  "Scores",
  "Every point is a test clip; the bar is the median, the dashed line the threshold. Right of it a clip is called abnormal.",
  many
    ? [
        el(
          "div",
          { class: known.length ? "panels" : "panels strips" },
          data.sections.map((section) =>
            el(
              "div",
              { class: "card panel" },
              el("h3", null, section.label),
              strips(section, pick),
              Object.keys(section.roc).length ? rocChart(section) : null,
            ),
          ),
        ),
        known.length
          ? legend([
              ["normal", "normal"],
              ["anomaly", "anomaly"],
              ["ROC, both domains (shaded: pAUC)", "ink"],
              ["ROC, source", "source"],
              ["ROC, target", "target"],
            ])
          : legend([
              ["called normal", "soft"],
              ["called abnormal", "anomaly"],
            ]),
      ]
    : null,
);
part(
  "time",
  "Over time",
  "Clips whose names say when they were recorded, UTC. The dashed line is the threshold; click a point to listen.",
  timeFigure(data, pick),
);
const pair = [domainChart(data), dataSetChart(data)].filter(Boolean);
part("domains", "Domains", null, pair.length ? el("div", { class: "two" }, pair) : null);
part("map", "Map", null, data.sections.some((section) => section.map) && many ? mapFigure(data, pick) : null);
part(
  "made",
  "How this was made",
  null,
  facts(),
  data.faults.length
    ? el(
        "div",
        { class: "warn" },
        el("p", null, "Recordings that could not be read:"),
        data.faults.map((fault) => el("div", { class: "mono" }, fault)),
      )
    : null,
);

fill(document.getElementById("nav"), null, [
  el(
    "div",
    null,
    parts.map(([id, title]) => el("a", { href: `#${id}` }, title)),
    el("span", { class: "gap" }),
    el(
      "button",
      {
        class: "plain",
        id: "theme",
        type: "button",
        onclick: () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
      },
      "light / dark",
    ),
  ),
]);
browser.linked();
fill(document.getElementById("foot"), null, ["This page is one file; it loads nothing and sends nothing."]);
