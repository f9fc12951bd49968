"use strict";
// Text only ever goes in by textContent: names of topics and reasons come from elsewhere.
const at = (id) => document.getElementById(id);
const number = (value) => (value === null ? "–" : Math.round(value).toLocaleString("en"));
const seconds = (value) => (value === null ? "–" : value < 10 ? `${value.toFixed(1)} s` : value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`);

function rows(id, lines) {
  at(id).replaceChildren(...lines.map(({ cells, bad }) => {
    const row = document.createElement("tr");
    if (bad) row.className = "bad";
    row.append(...cells.map((text, index) => {
      const cell = document.createElement(index ? "td" : "th");
      if (!index) cell.scope = "row";
      cell.textContent = text;
      return cell;
    }));
    return row;
  }));
}

function draw(id, points) {
  const svg = at(id), shape = "http://www.w3.org/2000/svg";
  const most = Math.max(1, ...points.map(([, value]) => value ?? 0));
  const now = points.length ? points[points.length - 1][0] : 0;
  svg.setAttribute("viewBox", "0 0 3600 100");
  svg.setAttribute("preserveAspectRatio", "none");
  const runs = [[]];
  for (const [when, value] of points) {
    if (value === null) runs.push([]); // what is not known is a gap, not a 0
    else runs[runs.length - 1].push(`${3600 - (now - when)},${98 - (96 * value) / most}`);
  }
  svg.replaceChildren(...runs.filter((run) => run.length).map((run) => {
    const line = document.createElementNS(shape, "polyline");
    line.setAttribute("points", run.join(" "));
    return line;
  }));
}

// The breaker's words are an electrician's: closed is where it works.
const states = { closed: "works", open: "away", "half-open": "is tried" };

function show(state) {
  document.title = `${state.name} – pipeline`;
  at("name").textContent = `${state.name} (group ${state.group})`;
  at("rate").textContent = number(state.rate);
  at("lag").textContent = number(state.message_lag);
  at("age").textContent = seconds(state.time_lag_seconds);
  rows("shards", state.shards.map((s) => ({ bad: s.trouble !== "", cells: [s.shard, states[s.state] ?? s.state, s.limit, s.in_flight, s.trouble] })));
  rows("partitions", state.partitions.map((p) => ({ bad: !p.answers, cells: [`${p.topic}-${p.partition}`, p.state, seconds(p.state_seconds), p.watermark ?? "–", number(p.message_lag), seconds(p.time_lag_seconds), number(p.buffered), p.paused === null ? p.waits_for : `paused ${p.paused}`] })));
}

async function past() {
  const { samples, changes } = await (await fetch("/api/history")).json();
  ["chart-rate", "chart-lag", "chart-age"].forEach((id, n) => draw(id, samples.map((s) => [s[0], s[n + 1]])));
  at("changes").replaceChildren(...changes.slice().reverse().map((change) => {
    const item = document.createElement("li");
    const parts = [["gained", change.gained], ["lost", change.lost]].filter(([, names]) => names.length);
    item.textContent = `${new Date(change.at * 1000).toLocaleTimeString()}: ${parts.map(([word, names]) => `${word} ${names.join(", ")}`).join("; ")}`;
    return item;
  }));
}

async function tasks() {
  if (at("tree").open) at("tasks").textContent = await (await fetch("/api/tasks")).text();
}

function say(text) { // only a change is written, so that a screen reader isn't told each second
  if (at("link").textContent !== text) at("link").textContent = text;
}

const events = new EventSource("/api/events");
events.onmessage = (event) => { say("live"); show(JSON.parse(event.data)); };
events.onerror = () => say("this instance doesn't answer; what is shown is old");
const look = () => Promise.all([past(), tasks()]).catch(() => {});
look();
setInterval(look, 5000);
at("tree").addEventListener("toggle", look);
