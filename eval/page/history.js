// The page of a history: a time line a machine, then the days.
const data = JSON.parse(document.getElementById("data").textContent);
document.title = `${data.machines.map((one) => one.label).join(", ")} – history`;
fill(document.getElementById("top"), null, [
  el(
    "div",
    { class: "name" },
    el(
      "h1",
      null,
      data.machines.length > 3 ? `${data.machines.length} machines` : data.machines.map((one) => one.label).join(", "),
    ),
    el("div", { class: "soft" }, `${data.clips} clips judged, ${told(data.first)} to ${told(data.last)} UTC`),
  ),
]);
for (const machine of data.machines) {
  const names = ["t", "score", "threshold", "called", "name", "text", "event", "reason", "bank"];
  const points = machine.points.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i]])));
  const alarms = points.filter((point) => point.event);
  document.getElementById("main").append(
    el(
      "section",
      null,
      el("h2", null, machine.label),
      machine.thinned
        ? el(
            "p",
            { class: "soft small" },
            `Of ${machine.clips} clips the highest of each moment, and all that changed an alarm.`,
          )
        : null,
      timeChart(machine.label, points, null) || el("p", { class: "soft" }, "Too few clips for a time line."),
      el(
        "ul",
        { class: "alarms" },
        alarms.map((point) =>
          el(
            "li",
            null,
            el("b", null, `${told(point.t)} ${point.event}`),
            ` ${point.reason} – ${point.name}${point.text ? `: ${point.text}` : ""}`,
          ),
        ),
      ),
      el("h3", null, "Days"),
      dayTable(machine.days),
    ),
  );
}
