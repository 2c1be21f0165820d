// The clips: a list to choose from, one clip beside its nearest normal neighbours, and what a listener says of it.
const PHONE = 8; // clips of a phone's list before it is opened

function csvOf(head, rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  return `${[head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

function download(name, text) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

// Marks of a listener, kept by the browser where it keeps anything for a file.
function marksOf(key) {
  const found = new Map();
  try {
    for (const [clip, mark] of JSON.parse(localStorage.getItem(key) || "[]")) found.set(clip, mark);
  } catch {
    /* nothing kept, or by nobody: the page works without */
  }
  return {
    get: (clip) => found.get(clip) || "",
    set: (clip, mark) => {
      if (mark) found.set(clip, mark);
      else found.delete(clip);
      try {
        localStorage.setItem(key, JSON.stringify([...found]));
      } catch {
        /* as above */
      }
    },
  };
}

function clipBrowser(data) {
  const all = data.sections.flatMap((section) => section.clips.map((clip) => ({ section, clip })));
  const audible = all.some((row) => row.clip.sound),
    manyMachines = data.sections.length > 1,
    alone = all.length === 1;
  const truth = all.some((row) => row.clip.condition),
    decided = all.some((row) => row.clip.called !== null);
  const levels = {},
    mix = mixer(),
    marks = marksOf(`asd-marks-${data.key}`);
  const level = (key) => (levels[key] = levels[key] || bytes(data.sounds[key].levels));
  const keyOf = (row) => `${row.section.id}/${row.clip.name}`;
  let shown = [],
    current = null;

  // Above the threshold by as many of the section's own spreads: scores of machines are not comparable.
  for (const section of data.sections) {
    const scores = section.clips.map((c) => c.score),
      middle = median(scores);
    const width = median(scores.map((s) => Math.abs(s - middle))) || 1;
    for (const clip of section.clips) clip.rank = (clip.score - (section.threshold ?? middle)) / width;
  }

  const columns = [
    {
      title: "clip",
      text: true,
      value: (r) => r.clip.name,
      cell: (r) => [
        el(
          "button",
          {
            class: "link",
            type: "button",
            onclick: (event) => {
              event.stopPropagation();
              select(r);
            },
          },
          r.clip.sound ? "♪ " : "",
          r.clip.name,
        ),
        manyMachines ? el("div", { class: "machine" }, r.section.label) : null,
        markCell(r),
      ],
    },
    { title: "score", value: (r) => r.clip.rank, cell: (r) => number(r.clip.score) },
    ...(decided
      ? [
          {
            title: "sounds",
            text: true,
            value: (r) => r.clip.called,
            cell: (r) =>
              r.clip.called === null ? "–" : r.clip.called ? el("b", { class: "bad" }, "abnormal") : "normal",
          },
        ]
      : []),
    ...(truth
      ? [
          {
            title: "is",
            text: true,
            value: (r) => `${r.clip.condition}${r.clip.domain}`,
            cell: (r) => [r.clip.condition || "–", el("small", null, r.clip.domain || "")],
          },
        ]
      : []),
  ];
  const table = sortable(columns, all, {
    sort: columns[1],
    down: true,
    none: "No clip is like that: change the search or the choice beside it.",
    row: (row, cells) =>
      (row.line = el("tr", { "aria-current": row === current ? "true" : null, onclick: () => select(row) }, cells)),
    after: (rows) => {
      shown = rows;
    },
  });

  const machine = el(
    "select",
    { id: "machine", "aria-label": "Machine", onchange: () => filter() },
    el("option", { value: "" }, "all machines"),
    data.sections.map((s) => el("option", { value: s.id }, s.label)),
  );
  const kinds = [
    ["", "all clips", () => true],
    ["sound", "with sound", (r) => r.clip.sound],
    ["called", "called abnormal", (r) => r.clip.called === 1],
    ["alarm", "false alarms", (r) => r.clip.error === "false alarm"],
    ["miss", "misses", (r) => r.clip.error === "miss"],
    ["marked", "marked by you", (r) => marks.get(keyOf(r))],
  ].filter(([key, , holds]) => !key || key === "marked" || all.some(holds));
  const kind = el(
    "select",
    { id: "kind", "aria-label": "Which clips", onchange: () => filter() },
    kinds.map(([key, text]) => el("option", { value: key }, text)),
  );
  const search = el("input", {
    id: "search",
    type: "search",
    placeholder: "name or attribute",
    "aria-label": "Search",
    oninput: () => filter(),
  });
  const count = el("span", { class: "soft small", id: "count", role: "status" });
  const viewer = el("div", { class: "viewer card", id: "viewer" });
  const list = el("div", { class: "list short", tabindex: 0, role: "region", "aria-label": "Clips" }, table.table);
  const more = el("button", {
    type: "button",
    class: "more",
    onclick: () => {
      list.classList.remove("short");
      more.hidden = true;
    },
  });

  function markCell(row) {
    row.mark = el("small", { class: "mark" }, wordOf(marks.get(keyOf(row))));
    return row.mark;
  }

  function wordOf(mark) {
    return { normal: "normal after all", abnormal: "truly abnormal" }[mark] || "";
  }

  function filter(keep) {
    const holds = (kinds.find(([key]) => key === kind.value) || kinds[0])[2],
      words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = all.filter(
      (row) =>
        (!machine.value || row.section.id === machine.value) &&
        holds(row) &&
        words.every((word) =>
          `${row.section.label} ${row.clip.name} ${row.clip.attributes.flat().join(" ")} ${row.clip.domain} ${row.clip.condition}`
            .toLowerCase()
            .includes(word),
        ),
    );
    table.show(rows);
    count.textContent = `${rows.length} of ${all.length} ${all.length === 1 ? "clip" : "clips"}`;
    more.textContent = `all ${rows.length} clips`;
    more.hidden = rows.length <= PHONE || !list.classList.contains("short");
    if (!keep && rows.length && !rows.includes(current))
      select(shown.find((row) => row.clip.sound) || shown[0], { quiet: true });
  }

  function select(row, { scroll = false, quiet = false } = {}) {
    if (current?.line) current.line.removeAttribute("aria-current");
    current = row;
    row.line.setAttribute("aria-current", "true");
    if (scroll) row.line.scrollIntoView({ block: "nearest" });
    // A link to this clip; a page that was just opened keeps the address it was opened by.
    if (!quiet) history.replaceState(null, "", `#clip=${encodeURIComponent(keyOf(row))}`);
    show(row);
  }

  const step = (by) => {
    const at = shown.indexOf(current) + by;
    if (shown[at]) select(shown[at], { scroll: true });
  };

  function limitsOf(keys) {
    const values = keys.flatMap((key) => Array.from(level(key))).sort((a, b) => a - b);
    return [
      values[Math.floor(values.length * 0.02)],
      Math.max(values[Math.floor(values.length * 0.998)], values[Math.floor(values.length * 0.02)] + 20),
    ];
  }

  function badges(clip) {
    const found = [];
    if (clip.called !== null)
      found.push([clip.called ? "sounds abnormal" : "sounds normal", clip.called ? "bad" : "good"]);
    if (clip.condition)
      found.push([
        `is ${clip.condition === "anomaly" ? "an anomaly" : "normal"}`,
        clip.condition === "anomaly" ? "bad" : "good",
      ]);
    if (clip.error) found.push([clip.error, "bad"]);
    if (clip.domain) found.push([`${clip.domain} domain`, ""]);
    if (clip.span) found.push([`worst from ${clip.span[0]} to ${clip.span[1]} s`, ""]);
    return [...found, ...clip.attributes.map(([name, value]) => [value ? `${name} ${value}` : name, ""])].map(
      ([text, look]) => el("span", { class: `badge ${look}` }, text),
    );
  }

  // Clips of unknown domain count as source; their own page does not call them so.
  const nearest = (n) => (n.told ? `Nearest normal, ${n.domain}` : "Nearest normal");

  function why(section, clip) {
    const parts = [`score ${number(clip.score)}`];
    if (section.threshold !== null) parts.push(`threshold ${number(section.threshold)}`);
    if (clip.p !== null) parts.push(`as high in ${(100 * clip.p).toPrecision(2)} % of normal clips`);
    if (clip.decided && clip.near.length > 1 && clip.near.every((n) => n.told))
      parts.push(`the ${clip.decided} domain decided`);
    if (clip.part) parts.push(`by ${clip.part}`);
    return parts.join(" · ");
  }

  function markButtons(row) {
    const buttons = ["normal", "abnormal"].map((mark) =>
      el(
        "button",
        {
          type: "button",
          class: "judge",
          "aria-pressed": String(marks.get(keyOf(row)) === mark),
          onclick: () => {
            marks.set(keyOf(row), marks.get(keyOf(row)) === mark ? "" : mark);
            for (const [i, button] of buttons.entries())
              button.setAttribute("aria-pressed", String(marks.get(keyOf(row)) === ["normal", "abnormal"][i]));
            if (row.mark) row.mark.textContent = wordOf(marks.get(keyOf(row)));
          },
        },
        wordOf(mark),
      ),
    );
    return el("div", { class: "marks" }, el("span", { class: "soft small" }, "You hear it: "), buttons);
  }

  function show(row) {
    const { section, clip } = row,
      near = clip.near,
      heard = near.filter((n) => n.sound),
      panels = [];
    mix.clear();
    if (clip.sound) {
      const limits = limitsOf([clip.sound, ...heard.map((n) => n.sound)]);
      panels.push(
        soundPanel("This clip", data.sounds[clip.sound], level(clip.sound), why(section, clip), 1, limits, mix),
      );
      for (const n of heard)
        panels.push(
          soundPanel(
            nearest(n),
            data.sounds[n.sound],
            level(n.sound),
            `${n.clip.split("/").pop()} · distance ${number(n.distance)}`,
            n.domain === "source" ? 2 : 3,
            limits,
            mix,
          ),
        );
      const closest = heard.find((n) => n.domain === clip.decided) || heard[0];
      if (closest)
        panels.push(
          differencePanel(
            data.sounds[clip.sound],
            level(clip.sound),
            data.sounds[closest.sound],
            level(closest.sound),
            clip.difference ? clip.difference.sentence : "",
          ),
        );
      const [low, high] = limits.map((value) => (value * DECIBELS - 120).toFixed(0).replace("-", "−"));
      panels.push(
        el(
          "div",
          { class: "wide" },
          regionTools(mix, clip.difference),
          colourScale((at) => ramp(MAGMA, at), low, high, "dB re a full-scale sine"),
        ),
      );
    } else {
      panels.push(
        el(
          "div",
          { class: "none" },
          audible
            ? "This clip cannot be heard here: its recording was not found or not read, has changed since it was scored, or was left out to keep the page small (--listen)."
            : "No recordings were named: give their folders with --audio to hear them here.",
          el("div", { class: "caption" }, why(section, clip)),
        ),
      );
    }
    const silent = near
      .filter((n) => !(clip.sound && n.sound))
      .map((n) => el("div", { class: "caption" }, `${nearest(n)}: ${n.clip} · distance ${number(n.distance)}`));
    const arrows = alone
      ? []
      : [
          ["Previous clip", "←", -1],
          ["Next clip", "→", 1],
        ].map(([name, text, by]) =>
          el("button", { type: "button", "aria-label": name, onclick: () => step(by) }, text),
        );
    viewer.replaceChildren(
      el(
        "div",
        { class: "title" },
        el("h3", { class: "mono", id: "clip" }, clip.name),
        el("span", { class: "soft small" }, section.label),
        el("span", { class: "gap" }),
        arrows,
      ),
      el("div", { class: "badges" }, badges(clip)),
      markButtons(row),
      el("div", { class: "sounds" }, panels),
      ...silent,
    );
  }

  function exported() {
    return shown.map((row) => [
      row.section.machine,
      row.section.number,
      row.clip.id || row.clip.name,
      row.clip.score,
      row.clip.called,
      row.clip.p,
      row.clip.condition,
      row.clip.difference ? row.clip.difference.sentence : "",
      marks.get(keyOf(row)),
    ]);
  }
  const head = ["machine_type", "section", "clip", "score", "decision", "p_value", "condition", "difference", "mark"];
  const status = el("span", { class: "soft small", role: "status" });
  const triage = el(
    "div",
    { class: "tools triage" },
    el(
      "button",
      { type: "button", id: "csv", onclick: () => download("clips.csv", csvOf(head, exported())) },
      "download this list",
    ),
    el(
      "button",
      {
        type: "button",
        id: "copy",
        onclick: () =>
          navigator.clipboard.writeText(csvOf(head, exported())).then(
            () => {
              status.textContent = "copied";
            },
            () => {
              status.textContent = "the browser does not allow it: download the list";
            },
          ),
      },
      "copy this list",
    ),
    el(
      "button",
      {
        type: "button",
        id: "marks",
        onclick: () => {
          const rows = all.filter((row) => marks.get(keyOf(row)));
          status.textContent = rows.length ? "" : "nothing is marked yet";
          if (rows.length)
            download(
              "marks.csv",
              csvOf(
                ["machine_type", "section", "clip", "mark"],
                rows.map((row) => [
                  row.section.machine,
                  row.section.number,
                  row.clip.id || row.clip.name,
                  marks.get(keyOf(row)),
                ]),
              ),
            );
        },
      },
      "download your marks",
    ),
    status,
  );

  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      j: () => step(1),
      n: () => step(1),
      ArrowRight: () => step(1),
      k: () => step(-1),
      p: () => step(-1),
      ArrowLeft: () => step(-1),
      1: () => mix.toggle(mix.players[0]),
      2: () => mix.toggle(mix.players[1]),
      3: () => mix.toggle(mix.players[2]),
      " ": () => mix.toggle(mix.current()),
      Escape: mix.stop,
    }[event.key];
    if (!act || (event.key === " " && event.target.matches("button"))) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("themechange", () => current && show(current));

  const keys = [
    ...(alone
      ? []
      : [
          ["j", "next"],
          ["k", "previous"],
        ]),
    ["1", "this clip"],
    ["2", "its nearest normal"],
    ["Esc", "stop"],
  ];
  const node = [
    alone
      ? null
      : el("div", { class: "tools" }, manyMachines ? machine : null, kinds.length > 2 ? kind : null, search, count),
    el(
      "div",
      { class: alone ? "listen alone" : "listen" },
      alone ? el("div", { hidden: true }, list) : el("div", { class: "column" }, list, more, triage),
      viewer,
    ),
    audible
      ? el(
          "div",
          { class: "keys" },
          keys.map(([key, text]) => el("span", null, el("kbd", null, key), ` ${text}`)),
          el("span", null, "click a spectrogram to play from there, drag to select"),
        )
      : null,
  ];
  filter();

  function linked() {
    const asked = location.hash.startsWith("#clip=") ? decodeURIComponent(location.hash.slice(6)) : "";
    const row = all.find((one) => keyOf(one) === asked);
    if (!row) return;
    machine.value = "";
    kind.value = "";
    search.value = "";
    filter(true);
    list.classList.remove("short");
    more.hidden = true;
    select(row, { scroll: true, quiet: true });
    document.getElementById("listen").scrollIntoView();
  }
  addEventListener("hashchange", linked);
  return {
    node,
    linked,
    machine: (id) => {
      machine.value = id;
      kind.value = "";
      search.value = "";
      filter();
    },
    pick: (section, clip) => {
      machine.value = manyMachines ? section.id : "";
      kind.value = "";
      search.value = "";
      filter(true);
      select(
        all.find((row) => row.clip === clip),
        { scroll: true },
      );
      document.getElementById("listen").scrollIntoView();
    },
  };
}
