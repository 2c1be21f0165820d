// Spectrograms with axes, a selection of time and frequency, and what is played of it.
const MAGMA = [
  [0, 0, 4],
  [40, 17, 89],
  [114, 31, 129],
  [183, 55, 121],
  [241, 96, 93],
  [254, 176, 120],
  [252, 253, 191],
];
const DECIBELS = 120 / 255; // of one step of a level
const REACH = 12; // dB at which the colours of a difference are full

function bytes(text) {
  const raw = atob(text),
    found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

function ramp(stops, at) {
  const place = Math.min(Math.max(at, 0), 1) * (stops.length - 1),
    i = Math.min(Math.floor(place), stops.length - 2);
  return stops[i].map((from, c) => from + (stops[i + 1][c] - from) * (place - i));
}

function paint(canvas, frames, bands, shade) {
  canvas.width = frames;
  canvas.height = bands;
  const pen = canvas.getContext("2d"),
    image = pen.createImageData(frames, bands);
  for (let band = 0; band < bands; band++)
    for (let frame = 0; frame < frames; frame++) {
      const [r, g, b] = shade(band, frame);
      image.data.set([r, g, b, 255], 4 * ((bands - 1 - band) * frames + frame));
    }
  pen.putImageData(image, 0, 0);
}

// Bands are of equal width in mel, as they were made: mel(f) = 2595 log10(1 + f / 700), 65 steps to half the rate.
const melOf = (hertz) => 2595 * Math.log10(1 + hertz / 700);
const heightOf = (sound, hertz) =>
  Math.min(1, Math.max(0, ((65 * melOf(hertz)) / melOf(sound.rate / 2) - 0.5) / sound.bands));
const hertzAt = (sound, height) =>
  Math.max(0, 700 * (10 ** ((((height * sound.bands + 0.5) / 65) * melOf(sound.rate / 2)) / 2595) - 1));
const hertzText = (hertz) =>
  hertz >= 1000 ? `${(hertz / 1000).toFixed(hertz < 9950 ? 1 : 0)} kHz` : `${Math.round(hertz)} Hz`;
const decibelText = (value) => `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(0)} dB`;

// A picture with its axes; `say(band, frame)` tells what is under the pointer.
function chart(sound, canvas, say, children) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5].find((s) => sound.seconds / s <= 7) || 5;
  const times = [];
  for (let at = 0; at <= sound.seconds * 0.97; at += step) times.push(+at.toFixed(2));
  const tones = [50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000].filter((f) => f < 0.9 * (sound.rate / 2));
  const kept = tones.filter(
    (f, i) => i === tones.length - 1 || heightOf(sound, tones[i + 1]) - heightOf(sound, f) > 0.09,
  );
  const box = el("div", { class: "picture" }, canvas, children);
  const cell = (event) => {
    const place = box.getBoundingClientRect();
    const x = (event.clientX - place.left) / place.width,
      y = 1 - (event.clientY - place.top) / place.height;
    return { x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)) };
  };
  box.addEventListener("pointermove", (event) => {
    const { x, y } = cell(event);
    const band = Math.min(sound.bands - 1, Math.floor(y * sound.bands)),
      frame = Math.min(sound.frames - 1, Math.floor(x * sound.frames));
    showTip(event, `${(x * sound.seconds).toFixed(2)} s · ${hertzText(hertzAt(sound, y))} · ${say(band, frame)}`);
  });
  box.addEventListener("pointerleave", hideTip);
  const node = el(
    "div",
    { class: "chart" },
    el(
      "div",
      { class: "ys", "aria-hidden": "true" },
      kept.map((f) =>
        el("span", { style: `bottom:${(100 * heightOf(sound, f)).toFixed(1)}%` }, hertzText(f).replace(".0", "")),
      ),
    ),
    box,
    el(
      "div",
      { class: "xs", "aria-hidden": "true" },
      times.map((t) =>
        el(
          "span",
          { style: `left:${((100 * t) / sound.seconds).toFixed(1)}%` },
          `${+t.toFixed(1)}${t === 0 ? " s" : ""}`,
        ),
      ),
    ),
  );
  return { node, box, cell };
}

// A colour scale: `shade(0 to 1)`, with what its ends mean.
function colourScale(shade, low, high, unit) {
  const canvas = el("canvas", { role: "img", "aria-label": `Colours from ${low} to ${high} ${unit}` });
  paint(canvas, 96, 1, (_, at) => shade(at / 95));
  return el("span", { class: "scale" }, low, canvas, `${high} ${unit}`);
}

// What is heard of a clip's panels: one plays at a time, whole or a selection of time and frequencies.
function mixer() {
  let context = null,
    playing = null;
  const state = { region: null, loop: false, band: false, gain: 0 },
    nodes = new Map(),
    players = [],
    watchers = [];

  const stop = () => {
    const last = playing;
    playing = null;
    if (last) {
      last.audio.pause();
      last.draw();
    }
  };

  // Through filters only where they are asked for: a plain element plays everywhere.
  function route(player) {
    if (!state.gain && !state.band && !nodes.has(player)) return;
    context = context || new AudioContext();
    if (context.state === "suspended") context.resume();
    if (!nodes.has(player)) {
      const filters = ["highpass", "highpass", "lowpass", "lowpass"].map(
        (type) => new BiquadFilterNode(context, { type, Q: Math.SQRT1_2 }),
      );
      const gain = new GainNode(context),
        chain = [context.createMediaElementSource(player.audio), ...filters, gain, context.destination];
      chain.reduce((from, to) => from.connect(to));
      nodes.set(player, { filters, gain });
    }
    const { filters, gain } = nodes.get(player),
      top = context.sampleRate / 2,
      region = state.band && state.region;
    const edges = region ? [region.low, region.low, region.high, region.high] : [0, 0, top, top];
    filters.forEach((filter, i) => {
      filter.frequency.value = Math.min(top, edges[i]);
    });
    gain.gain.value = 10 ** (state.gain / 20);
  }

  function toggle(player) {
    if (!player) return;
    const again = playing === player && !player.audio.paused;
    stop();
    if (again) return;
    playing = player;
    route(player);
    if (state.loop && state.region) player.audio.currentTime = state.region.start;
    player.audio
      .play()
      .then(player.draw)
      .catch(() => player.draw());
  }

  return {
    state,
    players,
    stop,
    toggle,
    change: (what) => {
      Object.assign(state, what);
      if (playing) route(playing);
      for (const watch of watchers) watch();
    },
    watch: (run) => {
      watchers.push(run);
      run();
    },
    // Keeps a looped selection within its ends; true while the element plays.
    tick: (player) => {
      const { audio } = player,
        on = playing === player && !audio.paused && !audio.ended;
      if (
        on &&
        state.loop &&
        state.region &&
        (audio.currentTime >= state.region.end || audio.currentTime < state.region.start - 0.1)
      )
        audio.currentTime = state.region.start;
      return on;
    },
    again: (player) => {
      if (state.loop && state.region && playing === player) {
        player.audio.currentTime = state.region.start;
        player.audio.play();
        return true;
      }
      return false;
    },
    current: () => playing || players[0],
    clear: () => {
      stop();
      players.length = watchers.length = 0;
      nodes.clear();
      Object.assign(state, { region: null, loop: false });
    },
  };
}

// A panel that plays: drag over it to select times and frequencies, click to play from there.
function soundPanel(title, sound, grain, caption, digit, limits, mix) {
  const audio = el("audio", { src: `data:audio/mpeg;base64,${sound.mp3}`, preload: "auto" });
  const button = el(
    "button",
    {
      class: "play",
      type: "button",
      "aria-label": `Play ${title}`,
      "aria-pressed": "false",
      onclick: () => mix.toggle(player),
    },
    "▶",
  );
  const head = el("i", { "aria-hidden": "true" }),
    mark = el("div", { class: "region", hidden: true });
  const canvas = el("canvas", { role: "img", "aria-label": `Spectrogram of ${title}` });
  const [low, high] = limits;
  paint(canvas, sound.frames, sound.bands, (band, at) =>
    ramp(MAGMA, (grain[band * sound.frames + at] - low) / (high - low)),
  );
  const { node, box, cell } = chart(
    sound,
    canvas,
    (band, at) => decibelText(grain[band * sound.frames + at] * DECIBELS - 120),
    [mark, head],
  );
  fill(
    box,
    {
      tabindex: 0,
      role: "slider",
      "aria-label": `Position in ${title}`,
      "aria-valuemin": 0,
      "aria-valuemax": sound.seconds,
      "aria-valuenow": 0,
    },
    [],
  );
  const player = {
    audio,
    draw: () => {
      const on = mix.tick(player);
      button.textContent = on ? "❚❚" : "▶";
      button.setAttribute("aria-pressed", String(on));
      box.setAttribute("aria-valuenow", audio.currentTime.toFixed(2));
      box.setAttribute("aria-valuetext", `${audio.currentTime.toFixed(1)} s`);
      head.style.left = `${Math.min(100, (100 * audio.currentTime) / sound.seconds)}%`;
      if (on) requestAnimationFrame(player.draw);
    },
  };
  audio.addEventListener("ended", () => {
    if (!mix.again(player)) audio.currentTime = 0;
    player.draw();
  });
  mix.players[digit - 1] = player;
  mix.watch(() => {
    const { region } = mix.state;
    mark.hidden = !region;
    if (!region) return;
    const left = (100 * region.start) / sound.seconds,
      bottom = 100 * heightOf(sound, region.low);
    Object.assign(mark.style, {
      left: `${left}%`,
      width: `${(100 * region.end) / sound.seconds - left}%`,
      bottom: `${bottom}%`,
      height: `${100 * heightOf(sound, region.high) - bottom}%`,
    });
  });
  let from = null;
  box.addEventListener("pointerdown", (event) => {
    if (event.button === 0) {
      from = { ...cell(event), left: event.clientX, top: event.clientY };
      box.setPointerCapture(event.pointerId);
    }
  });
  box.addEventListener("pointerup", (event) => {
    if (!from) return;
    const to = cell(event),
      moved = Math.hypot(event.clientX - from.left, event.clientY - from.top);
    if (moved >= 5) {
      const [start, end] = [from.x, to.x].sort((a, b) => a - b),
        [bottom, top] = [from.y, to.y].sort((a, b) => a - b);
      mix.change({
        region: {
          start: start * sound.seconds,
          end: Math.max(end, start + 0.005) * sound.seconds,
          low: hertzAt(sound, bottom),
          high: hertzAt(sound, Math.max(top, bottom + 0.02)),
        },
      });
    } else {
      audio.currentTime = sound.seconds * to.x;
      if (mix.current() === player && !audio.paused) player.draw();
      else mix.toggle(player);
    }
    from = null;
  });
  box.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 0.2, ArrowLeft: -0.2 }[event.key];
    if (event.key === "Enter") mix.toggle(player);
    else if (by) audio.currentTime = Math.min(sound.seconds, Math.max(0, audio.currentTime + by));
    else return;
    event.preventDefault();
    event.stopPropagation();
    player.draw();
  });
  return el(
    "div",
    { class: "sound" },
    el("div", { class: "label" }, button, el("b", null, title), el("kbd", null, digit)),
    node,
    el(
      "div",
      { class: "caption" },
      caption,
      sound.cut ? " · the recording goes on" : "",
      sound.made ? ` · ${sound.made}` : "",
    ),
    audio,
  );
}

// What the clip has more or less of than is usual in a normal one, band by band.
function differencePanel(sound, own, normal, other, sentence) {
  if (sound.rate !== normal.rate) return null;
  const usual = Array.from({ length: sound.bands }, (_, band) =>
    median(other.subarray(band * normal.frames, (band + 1) * normal.frames)),
  );
  const dark = document.documentElement.dataset.theme === "dark";
  const stops = [[43, 108, 176], dark ? [26, 30, 34] : [250, 250, 248], [197, 48, 48]];
  const more = (band, at) => DECIBELS * (own[band * sound.frames + at] - usual[band]);
  const canvas = el("canvas", { role: "img", "aria-label": `Difference: ${sentence || "band by band"}` });
  paint(canvas, sound.frames, sound.bands, (band, at) => ramp(stops, 0.5 + more(band, at) / (2 * REACH)));
  const { node } = chart(sound, canvas, (band, at) => `${decibelText(more(band, at))} against usual`, []);
  return el(
    "div",
    { class: "sound", id: "difference" },
    el(
      "div",
      { class: "label" },
      el("b", null, "Difference"),
      colourScale((at) => ramp(stops, at), `−${REACH}`, `+${REACH}`, "dB"),
    ),
    node,
    el(
      "div",
      { class: "caption" },
      sentence ? [el("b", null, sentence[0].toUpperCase() + sentence.slice(1)), ". "] : "",
      "Against the usual level of each band in the nearest normal clip: red is louder, blue quieter.",
    ),
  );
}

// Buttons for what was selected: hear it again and again, alone, louder.
function regionTools(mix, difference) {
  const press = (text, name) =>
    el(
      "button",
      { type: "button", "aria-pressed": "false", onclick: () => mix.change({ [name]: !mix.state[name] }) },
      text,
    );
  const loop = press("loop", "loop"),
    band = press("only these frequencies", "band");
  const clear = el(
    "button",
    { type: "button", onclick: () => mix.change({ region: null, loop: false, band: false }) },
    "clear",
  );
  const told = el("span", { class: "soft", role: "status" });
  const gain = el("input", {
    type: "range",
    min: 0,
    max: 30,
    step: 3,
    value: mix.state.gain,
    "aria-label": "Gain in dB",
    oninput: () => mix.change({ gain: Number(gain.value) }),
  });
  const louder = el("span", { class: "soft" });
  mix.watch(() => {
    const { region } = mix.state;
    for (const [node, name] of [
      [loop, "loop"],
      [band, "band"],
    ]) {
      node.setAttribute("aria-pressed", String(mix.state[name]));
      node.disabled = !region;
    }
    clear.disabled = !region;
    told.textContent = region
      ? `${region.start.toFixed(2)} to ${region.end.toFixed(2)} s, ${hertzText(region.low)} to ${hertzText(region.high)}`
      : "drag over a spectrogram to select";
    louder.textContent = `+${mix.state.gain} dB`;
  });
  const shown =
    difference && difference.kind !== "none"
      ? el(
          "button",
          {
            type: "button",
            id: "hear",
            onclick: () =>
              mix.change({
                region: { start: difference.start, end: difference.end, low: difference.low, high: difference.high },
                loop: true,
                band: true,
              }),
          },
          "hear the difference",
        )
      : null;
  return el("div", { class: "region-tools" }, shown, loop, band, clear, told, el("label", null, "gain ", gain, louder));
}
