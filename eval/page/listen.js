// The clips: a list to choose from, and one clip beside its nearest normal neighbours.
const MAGMA = [[0, 0, 4], [40, 17, 89], [114, 31, 129], [183, 55, 121], [241, 96, 93], [254, 176, 120], [252, 253, 191]];

function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

function ramp(stops, at) {
  const place = Math.min(Math.max(at, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(place), stops.length - 2);
  return stops[i].map((from, c) => from + (stops[i + 1][c] - from) * (place - i));
}

function paint(canvas, sound, shade) {
  canvas.width = sound.frames; canvas.height = sound.bands;
  const pen = canvas.getContext("2d"), image = pen.createImageData(sound.frames, sound.bands);
  for (let band = 0; band < sound.bands; band++) for (let frame = 0; frame < sound.frames; frame++) {
    const at = 4 * ((sound.bands - 1 - band) * sound.frames + frame);
    const [r, g, b] = shade(band, frame);
    image.data.set([r, g, b, 255], at);
  }
  pen.putImageData(image, 0, 0);
}

function clipBrowser(data) {
  const all = data.sections.flatMap((section) => section.clips.map((clip) => ({ section, clip })));
  const audible = all.some((row) => row.clip.sound), manyMachines = data.sections.length > 1;
  const truth = all.some((row) => row.clip.condition), decided = all.some((row) => row.clip.called !== null);
  const levels = {};
  const level = (key) => (levels[key] = levels[key] || bytes(data.sounds[key].levels));
  let shown = [], current = null, playing = null, players = [];

  // Above the threshold by as many of the section's own spreads: scores of machines are not comparable.
  for (const section of data.sections) {
    const scores = section.clips.map((c) => c.score), middle = median(scores);
    const width = median(scores.map((s) => Math.abs(s - middle))) || 1;
    for (const clip of section.clips) clip.rank = (clip.score - (section.threshold ?? middle)) / width;
  }

  const columns = [
    { title: "clip", text: true, value: (r) => r.clip.name, cell: (r) => [r.clip.sound ? "♪ " : "", r.clip.name, manyMachines ? el("div", { class: "machine" }, r.section.id) : null] },
    { title: "score", value: (r) => r.clip.rank, cell: (r) => number(r.clip.score) },
    ...(decided ? [{ title: "sounds", text: true, value: (r) => r.clip.called, cell: (r) => (r.clip.called ? el("b", { style: "color:var(--anomaly)" }, "abnormal") : "normal") }] : []),
    ...(truth ? [{ title: "is", text: true, value: (r) => `${r.clip.condition}${r.clip.domain}`, cell: (r) => [r.clip.condition || "–", el("small", null, r.clip.domain || "")] }] : []),
  ];
  const table = sortable(columns, all, {
    sort: columns[1], down: true,
    row: (row, cells) => (row.line = el("tr", { "aria-selected": row === current ? "true" : "false", onclick: () => select(row) }, cells)),
    after: (rows) => { shown = rows; },
  });

  const machine = el("select", { id: "machine", "aria-label": "Machine", onchange: () => filter() },
    el("option", { value: "" }, "all machines"), data.sections.map((s) => el("option", { value: s.id }, s.id)));
  const kinds = [["", "all clips", () => true], ["sound", "with sound", (c) => c.sound], ["called", "called abnormal", (c) => c.called === 1],
    ["alarm", "false alarms", (c) => c.error === "false alarm"], ["miss", "misses", (c) => c.error === "miss"]]
    .filter(([key, , holds]) => !key || all.some((row) => holds(row.clip)));
  const kind = el("select", { id: "kind", "aria-label": "Which clips", onchange: () => filter() }, kinds.map(([key, text]) => el("option", { value: key }, text)));
  const search = el("input", { id: "search", type: "search", placeholder: "name or attribute", "aria-label": "Search", oninput: () => filter() });
  const count = el("span", { class: "soft small", id: "count" });
  const viewer = el("div", { class: "viewer card", id: "viewer" });

  function filter(keep) {
    const holds = (kinds.find(([key]) => key === kind.value) || kinds[0])[2], words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = all.filter(({ section, clip }) => (!machine.value || section.id === machine.value) && holds(clip)
      && words.every((word) => `${section.id} ${clip.name} ${clip.attributes.flat().join(" ")} ${clip.domain} ${clip.condition}`.toLowerCase().includes(word)));
    table.show(rows);
    count.textContent = `${rows.length} of ${all.length} clips`;
    if (!keep && rows.length && !rows.includes(current)) select(shown.find((row) => row.clip.sound) || shown[0]);
  }

  function select(row, scroll) {
    stop();
    if (current && current.line) current.line.setAttribute("aria-selected", "false");
    current = row;
    row.line.setAttribute("aria-selected", "true");
    if (scroll) row.line.scrollIntoView({ block: "nearest" });
    show(row);
  }

  const step = (by) => {
    const at = shown.indexOf(current) + by;
    if (shown[at]) select(shown[at], true);
  };

  function stop() {
    if (playing) { playing.audio.pause(); playing.draw(); }
    playing = null;
  }

  function toggle(player) {
    if (!player) return;
    const again = playing === player && !player.audio.paused;
    stop();
    if (again) return;
    playing = player;
    player.audio.play().then(player.draw).catch(() => player.draw());
  }

  function soundPanel(title, key, caption, digit, limits) {
    const sound = data.sounds[key];
    const audio = el("audio", { src: `data:audio/mpeg;base64,${sound.mp3}`, preload: "auto" });
    const button = el("button", { class: "play", type: "button", "aria-label": `Play ${title}`, "aria-pressed": "false", onclick: () => toggle(player) }, "▶");
    const head = el("i"), canvas = el("canvas");
    const grain = level(key), [low, high] = limits;
    paint(canvas, sound, (band, at) => ramp(MAGMA, (grain[band * sound.frames + at] - low) / (high - low)));
    const player = { audio, draw: () => {
      const on = !audio.paused && !audio.ended;
      button.textContent = on ? "❚❚" : "▶";
      button.setAttribute("aria-pressed", String(on));
      head.style.left = `${(100 * audio.currentTime) / sound.seconds}%`;
      if (on) requestAnimationFrame(player.draw);
    } };
    audio.addEventListener("ended", () => { audio.currentTime = 0; player.draw(); });
    players[digit - 1] = player;
    const picture = el("div", { class: "picture", onclick: (event) => {
      const box = picture.getBoundingClientRect();
      audio.currentTime = (sound.seconds * (event.clientX - box.left)) / box.width;
      if (playing === player && !audio.paused) player.draw(); else toggle(player);
    } }, canvas, head, el("span", { class: "kilo", style: "top:2px" }, `${sound.rate / 2000} kHz`), el("span", { class: "kilo", style: "bottom:2px" }, `${sound.seconds.toFixed(1)} s${sound.cut ? " of more" : ""}`));
    return el("div", { class: "sound" }, el("div", { class: "label" }, button, el("b", null, title), el("kbd", null, digit)), picture, el("div", { class: "caption" }, caption), audio);
  }

  function differencePanel(mine, theirs, name) {
    const a = data.sounds[mine], b = data.sounds[theirs];
    const own = level(mine), other = level(theirs), unit = 120 / 255, reach = 12;
    if (a.rate !== b.rate) return null;
    const usual = Array.from({ length: a.bands }, (_, band) => median(other.subarray(band * b.frames, (band + 1) * b.frames)));
    const dark = document.documentElement.dataset.theme === "dark";
    const stops = [[43, 108, 176], dark ? [26, 30, 34] : [250, 250, 248], [197, 48, 48]];
    const canvas = el("canvas");
    paint(canvas, a, (band, at) => ramp(stops, 0.5 + (unit * (own[band * a.frames + at] - usual[band])) / (2 * reach)));
    return el("div", { class: "sound", id: "difference" }, el("div", { class: "label" }, el("b", null, "Difference")), el("div", { class: "picture", style: "cursor:default" }, canvas),
      el("div", { class: "caption" }, `This clip against what is usual, band by band, in the nearest normal ${name} clip: red is louder, blue quieter, full colour ${reach} dB.`));
  }

  function limitsOf(keys) {
    const values = keys.flatMap((key) => Array.from(level(key))).sort((a, b) => a - b);
    return [values[Math.floor(values.length * 0.02)], Math.max(values[Math.floor(values.length * 0.998)], values[Math.floor(values.length * 0.02)] + 20)];
  }

  function badges(section, clip) {
    const found = [];
    if (clip.called !== null) found.push([clip.called ? "sounds abnormal" : "sounds normal", clip.called ? "bad" : "good"]);
    if (clip.condition) found.push([`is ${clip.condition === "anomaly" ? "an anomaly" : "normal"}`, clip.condition === "anomaly" ? "bad" : "good"]);
    if (clip.error) found.push([clip.error, "bad"]);
    if (clip.domain) found.push([`${clip.domain} domain`, ""]);
    if (clip.span) found.push([`worst from ${clip.span[0]} to ${clip.span[1]} s`, ""]);
    return [...found, ...clip.attributes.map(([name, value]) => [value ? `${name} ${value}` : name, ""])].map(([text, look]) => el("span", { class: `badge ${look}` }, text));
  }

  // Clips of unknown domain count as source; their own page does not call them so.
  const nearest = (n) => n.told ? `Nearest normal, ${n.domain}` : "Nearest normal";

  function why(section, clip) {
    const parts = [`score ${number(clip.score)}`];
    if (section.threshold !== null) parts.push(`threshold ${number(section.threshold)}`);
    if (clip.p !== null) parts.push(`as high in ${(100 * clip.p).toPrecision(2)} % of normal clips`);
    if (clip.decided && clip.near.every((n) => n.told)) parts.push(`the ${clip.decided} domain decided${clip.part ? `, by ${clip.part}` : ""}`);
    return parts.join(" · ");
  }

  function show({ section, clip }) {
    players = [];
    const near = clip.near, heard = near.filter((n) => n.sound);
    const panels = [];
    if (clip.sound) {
      const limits = limitsOf([clip.sound, ...heard.map((n) => n.sound)]);
      panels.push(soundPanel("This clip", clip.sound, why(section, clip), 1, limits));
      for (const n of heard) panels.push(soundPanel(nearest(n), n.sound,
        `${n.clip.split("/").pop()} · distance ${number(n.distance)}`, n.domain === "source" ? 2 : 3, limits));
      const closest = heard.find((n) => n.domain === clip.decided) || heard[0];
      if (closest) panels.push(differencePanel(clip.sound, closest.sound, closest.told ? closest.domain : ""));
    } else {
      panels.push(el("div", { class: "none" }, audible ? "This clip cannot be heard here: its recording was not found or not read, or it was left out to keep the page small (--listen)." : "No recordings were named: give their folders with --audio to hear them here.", el("div", { class: "caption" }, why(section, clip))));
    }
    const silent = near.filter((n) => !(clip.sound && n.sound)).map((n) => el("div", { class: "caption" }, `${nearest(n)}: ${n.clip} · distance ${number(n.distance)}`));
    viewer.replaceChildren(
      el("div", { class: "title" }, el("h3", { class: "mono", id: "clip" }, clip.name), el("span", { class: "soft small" }, section.id), el("span", { class: "gap" }),
        el("button", { type: "button", "aria-label": "Previous clip", onclick: () => step(-1) }, "←"), el("button", { type: "button", "aria-label": "Next clip", onclick: () => step(1) }, "→")),
      el("div", { class: "badges" }, badges(section, clip)), el("div", { class: "sounds" }, panels), ...silent);
  }

  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { j: () => step(1), n: () => step(1), ArrowRight: () => step(1), k: () => step(-1), p: () => step(-1), ArrowLeft: () => step(-1),
      1: () => toggle(players[0]), 2: () => toggle(players[1]), 3: () => toggle(players[2]), " ": () => toggle(playing || players[0]), Escape: stop }[event.key];
    if (!act || (event.key === " " && event.target.matches("button"))) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("themechange", () => current && show(current));

  const keys = [["j", "next"], ["k", "previous"], ["1", "this clip"], ["2", "source neighbour"], ["3", "target neighbour"], ["Esc", "stop"]];
  const node = [el("div", { class: "tools" }, manyMachines ? machine : null, kinds.length > 1 ? kind : null, search, count),
    el("div", { class: "listen" }, el("div", { class: "list", tabindex: 0 }, table.table), viewer),
    audible ? el("div", { class: "keys" }, keys.map(([key, text]) => el("span", null, el("kbd", null, key), ` ${text}`)), el("span", null, "click a spectrogram to play from there")) : null];
  filter();
  return {
    node,
    machine: (id) => { machine.value = id; kind.value = ""; search.value = ""; filter(); },
    pick: (section, clip) => {
      machine.value = manyMachines ? section.id : ""; kind.value = ""; search.value = ""; filter(true);
      select(all.find((row) => row.clip === clip), true);
      document.getElementById("listen").scrollIntoView();
    },
  };
}
