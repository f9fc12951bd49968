"use strict";
// Text only ever goes in by textContent: names of topics and reasons come from elsewhere.
const at = (id) => document.getElementById(id);
const known = (value) => value !== null && value !== undefined;
const number = (value) => (known(value) ? Math.round(value).toLocaleString("en") : "–");
const seconds = (value) => (!known(value) ? "–" : value < 10 ? `${value.toFixed(1)} s` : value < 120 ? `${Math.round(value)} s` : value < 7200 ? `${Math.round(value / 60)} min` : `${Math.round(value / 3600)} h`);
const millis = (value) => (known(value) ? `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms` : "–");
const delay = (value) => (known(value) && value < 1 ? millis(value) : seconds(value));
const minutes = (value) => `${Math.round(value / 60)} minutes`;
const text = (value) => (known(value) ? String(value) : "–");

const written = {}; // what stands where: only a change is written, or a screen reader would never rest
function changed(id, lines) {
  const now = JSON.stringify(lines), before = written[id];
  written[id] = now;
  return now !== before;
}

// A cell is a text, or {n: text} for a number.
function rows(id, lines) {
  if (!changed(id, lines)) return;
  at(id).replaceChildren(...lines.map(({ cells, bad }) => {
    const row = document.createElement("tr");
    if (bad) row.className = "bad";
    row.append(...cells.map((content, index) => {
      const cell = document.createElement(index ? "td" : "th");
      if (!index) cell.scope = "row";
      if (typeof content === "object") cell.className = "n";
      cell.textContent = typeof content === "object" ? content.n : content;
      return cell;
    }));
    return row;
  }));
}

function items(id, lines) {
  if (!changed(id, lines)) return;
  at(id).replaceChildren(...lines.map(({ text, kind }) => {
    const item = document.createElement("li");
    if (kind) item.className = kind;
    item.textContent = text;
    return item;
  }));
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function draw(id, what, points, marks, show, span) {
  const svg = at(id);
  const values = points.map(([, value]) => value).filter(known);
  const most = Math.max(0, ...values), scale = most || 1;
  const now = points.length ? points[points.length - 1][0] : 0;
  const x = (when) => (span - (now - when)).toFixed(0);
  svg.setAttribute("viewBox", `0 0 ${span} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-label", `${what}, the last ${minutes(span)}: highest ${show(most)}, now ${show(values[values.length - 1])}`);
  at(`${id}-most`).textContent = values.length ? `highest ${show(most)}` : "";
  const runs = [[]];
  for (const [when, value] of points) {
    if (!known(value)) runs.push([]); // what is not known is a gap, not a 0
    else runs[runs.length - 1].push(`${x(when)},${(98 - (96 * value) / scale).toFixed(1)}`);
  }
  svg.replaceChildren(
    ...marks.filter((when) => when > now - span).map((when) => shape("line", { x1: x(when), x2: x(when), y1: 0, y2: 100 })),
    ...runs.filter((run) => run.length).map((run) => shape("polyline", { points: run.join(" ") })),
  );
}

// The breaker's words are an electrician's: closed is where it works.
const states = { closed: "works", open: "away", "half-open": "is tried" };
const kinds = { "not-json": "not JSON", value: "does not fit the columns", data: "refused by Postgres: data (SQLSTATE 22)", constraint: "refused by Postgres: a constraint (SQLSTATE 23)", handler: "refused by the handler", other: "another reason" };

function wrong(state) {
  const found = [];
  for (const i of state.instances) {
    if (!i.answers) found.push(`instance ${i.owner} on ${i.machine} is not answering: ${i.problem}`);
    for (const line of i.trouble ?? []) found.push(`instance ${i.owner}: ${line}`);
  }
  for (const s of state.shards) if (s.trouble) found.push(`shard ${s.shard} is ${s.trouble}`);
  const nobody = state.partitions.filter((p) => p.state === "unknown").length;
  if (nobody) found.push(`${nobody} partition${nobody === 1 ? " is" : "s are"} with no instance that answers`);
  return found;
}

function show(state) {
  const troubles = wrong(state);
  document.title = `${troubles.length ? `(${troubles.length}) ` : ""}${state.name} – pipeline`;
  at("name").textContent = `${state.name} (group ${state.group})`;
  at("note").textContent = state.note;
  at("note").hidden = state.note === "";
  items("wrong", troubles.length ? troubles.map((line) => ({ text: line })) : [{ text: "nothing", kind: "fine" }]);
  at("rate").textContent = number(state.rate);
  at("lag").textContent = number(state.message_lag);
  at("age").textContent = seconds(state.time_lag_seconds);
  at("accepted").textContent = number(state.accepted_rate);
  at("visible").textContent = delay(state.accepted_to_visible_seconds);
  rows("shards", state.shards.map((s) => ({ bad: s.trouble !== "", cells: [s.shard, states[s.state] ?? text(s.state), { n: text(s.limit) }, { n: text(s.in_flight) }, { n: text(s.busy) }, { n: millis(s.latency_seconds) }, s.trouble] })));
  at("pauses-section").hidden = !state.pauses.length;
  rows("pauses", state.pauses.map((p) => ({ cells: [text(p.what), text(p.id), text(p.story)] })));
  at("holds-section").hidden = !state.holds.length;
  rows("holds", state.holds.map((h) => ({ cells: [text(h.records_of), text(h.id), text(h.state), text(h.story)] })));
  at("lanes-section").hidden = !state.lanes.length;
  at("lanes-more").textContent = state.lanes_left_out ? `and ${number(state.lanes_left_out)} more, with younger records` : "";
  rows("lanes", state.lanes.map((l) => ({ cells: [`${l.topic}-${l.partition}`, text(l.records_of), text(l.reason), text(l.state), { n: number(l.waiting) }, { n: seconds(l.time_lag_seconds) }, new Date(l.opened_at * 1000).toLocaleString(), known(l.hold) ? `${l.hold.id} by ${l.hold.by}` : ""] })));
  rows("partitions", state.partitions.map((p) => ({ bad: !p.answers, cells: [`${p.topic}-${p.partition}`, text(p.owner), text(p.shard), known(p.paused) ? "paused" : text(p.state), { n: seconds(p.state_seconds) }, { n: text(p.watermark) }, { n: number(p.message_lag) }, { n: seconds(p.time_lag_seconds) }, { n: number(p.buffered) }, known(p.paused) ? `paused ${p.paused}` : text(p.waits_for)] })));
  rows("instances", state.instances.map((i) => ({ bad: !i.answers, cells: [text(i.owner) + (i.id === state.asked ? " (this page)" : ""), text(i.role), text(i.machine), text(i.version), new Date(i.since * 1000).toLocaleString(), { n: text(i.partitions) }, { n: number(i.rate) }, i.answers ? (i.trouble ?? []).join("; ") || "fine" : `not answering: ${i.problem}`] })));
  const ingests = state.instances.filter((i) => known(i.ingest));
  at("ingest-section").hidden = at("accepted-figure").hidden = !ingests.length;
  rows("ingest", ingests.map((i) => ({ cells: [text(i.owner), { n: number(i.rate) }, { n: number(i.ingest.accepted) }, Object.entries(i.ingest.refused ?? {}).map(([status, count]) => `${number(count)} with ${status}`).join(", ") || "none", { n: number(i.ingest.pending) }, { n: millis(i.ingest.latency_seconds) }] })));
  for (const name of ["tenants", "keys"]) {
    at(`${name}-section`).hidden = !state[name].length;
    rows(name, state[name].map((h) => ({ cells: [h.name, { n: number(h.recent) }, { n: number(h.records) }, { n: number(h.rows) }, { n: seconds(h.seconds) }] })));
  }
  const letters = Object.entries(state.dead_letters);
  at("letters-section").hidden = !letters.length;
  rows("letters", letters.map(([kind, count]) => ({ cells: [kinds[kind] ?? kind, { n: number(count) }] })));
}

async function past() {
  const { samples, changes, without } = await (await fetch("/api/history")).json();
  const marks = changes.map((change) => change.at);
  const age = samples.length ? samples[samples.length - 1][0] - samples[0][0] : 0;
  const span = Math.min(3600, Math.max(300, age)); // what there is, at least 5 minutes wide
  const chart = (id, what, place, show) => draw(id, what, samples.map((s) => [s[0], s[place]]), marks, show, span);
  at("legend").textContent = `The last ${minutes(span)}; a dashed line is a rebalance.${(without ?? []).length ? ` Without ${without.join(", ")}: not answering.` : ""}`;
  chart("chart-rate", "Records per second", 1, number);
  chart("chart-lag", "Message lag", 2, number);
  chart("chart-age", "Time lag", 3, seconds);
  chart("chart-accepted", "Records accepted per second", 4, number);
  at("visible-figure").hidden = !samples.some((s) => known(s[5]));
  chart("chart-visible", "Accepted to visible", 5, delay);
  items("changes", changes.slice().reverse().map((change) => {
    const parts = [["gained", change.gained], ["lost", change.lost]].filter(([, names]) => (names ?? []).length);
    return { text: `${new Date(change.at * 1000).toLocaleTimeString()}: ${text(change.owner)} ${parts.map(([word, names]) => `${word} ${names.join(", ")}`).join("; ")}` };
  }));
}

async function tasks() {
  if (at("tree").open) at("tasks").textContent = await (await fetch("/api/tasks")).text();
}

function say(words) {
  if (at("link").textContent !== words) at("link").textContent = words;
}

const events = new EventSource("/api/events");
events.onmessage = (event) => { say("live"); show(JSON.parse(event.data)); };
events.onerror = () => say("this instance doesn't answer; what is shown is old");
const look = () => Promise.all([past(), tasks()]).catch(() => {});
look();
setInterval(look, 5000);
at("tree").addEventListener("toggle", look);
