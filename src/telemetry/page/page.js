"use strict";
// Fetches three documents every few seconds and draws them. Names and messages come from configurations, providers and clients:
// they become text nodes and attributes, never markup.

const INTERVAL = 5000; // milliseconds between refreshes
const TIMEOUT = 10000; // milliseconds until a request counts as failed
const MOST = 100; // rows of a table
const MINUTES = 61; // an hour, and the minute that has begun
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);

/** An element with attributes and children, which are elements or texts. */
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function count(n) {
  return n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : n >= 1e4 ? `${(n / 1e3).toFixed(1)} k` : String(n);
}

function some(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

function moment(iso) {
  const time = new Date(iso);
  const today = new Date().toDateString() === time.toDateString();
  return el("time", { datetime: iso }, today ? time.toLocaleTimeString() : time.toLocaleString());
}

/** A table with roles, since narrow screens show it as blocks. Cells are elements, texts or null; the first one heads its row. */
function table(name, columns, rows) {
  const head = el("tr", { role: "row" }, ...columns.map((c) => el("th", { role: "columnheader", scope: "col" }, c)));
  const body = rows.slice(0, MOST).map((cells) => el("tr", { role: "row" }, ...cells.map((cell, i) => i === 0
    ? el("th", { role: "rowheader", scope: "row" }, cell)
    : el("td", { role: "cell", "data-label": columns[i] }, el("span", {}, cell ?? "–")))));
  const made = el("table", { role: "table", "aria-label": name },
    el("thead", { role: "rowgroup" }, head), el("tbody", { role: "rowgroup" }, ...body));
  const more = rows.length - MOST;
  return more > 0 ? el("div", {}, made, el("p", { class: "hint" }, `${more} more are not shown here.`)) : made;
}

/** Columns of values over the hour, the newest at the right; null is a gap. The description says what they show. */
function sparkline(values, description, bad) {
  const svg = document.createElementNS(SVG, "svg");
  const set = (node, attributes) => Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
  set(svg, { class: bad ? "spark bad" : "spark", viewBox: `0 0 ${MINUTES} 20`, preserveAspectRatio: "none", role: "img", "aria-label": description });
  const title = document.createElementNS(SVG, "title");
  title.textContent = description;
  const top = Math.max(1, ...values.filter((value) => value !== null));
  const left = MINUTES - values.length;
  const column = (value, i) => value ? `M${left + i} 19V${(18 - (value / top) * 17).toFixed(2)}h.8V19z` : "";
  for (const [d, part] of [[`M0 19h${MINUTES}v.5H0z`, "base"], [values.map(column).join(""), "columns"]]) {
    const path = document.createElementNS(SVG, "path");
    set(path, { d, class: part });
    svg.append(path);
  }
  svg.append(title);
  return svg;
}

function health(target) {
  const why = target.reason ? `, ${target.reason}` : "";
  if (target.healthy) return ["good", "healthy"];
  if (target.resting_for_ms !== undefined) return ["warn", `cooling for ${span(target.resting_for_ms)}`];
  const left = target.ejected_for_ms ?? target.set_aside_for_ms ?? 0;
  return ["bad", left > 0 ? `ejected for ${span(left)}${why}` : `ejected, probing${why}`];
}

function targets(list) {
  return el("ul", {}, ...list.map((target) => {
    const [tone, words] = health(target);
    const out = (target.models?.listed ?? []).map((model) => el("li", { class: "dim" }, `${model.model} `,
      el("span", { class: `badge ${health(model)[0]}` }, health(model)[1])));
    return el("li", {}, el("span", {}, target.target), " ", el("span", { class: `badge ${tone}` }, words),
      out.length ? el("ul", {}, ...out) : null);
  }));
}

const sum = (values) => values.reduce((all, value) => all + value, 0);

function routes(status, history) {
  const known = new Map(status.routes.map((route) => [route.route, route.targets]));
  const impaired = (route) => !(known.get(route.route) ?? []).every((target) => target.healthy);
  const busy = (route) => sum(route.requests ?? []);
  const shown = (route) => route.requests || impaired(route);
  const rows = history.routes.filter(shown)
    .sort((a, b) => (a.route === null) - (b.route === null) || impaired(b) - impaired(a) || busy(b) - busy(a))
    .map((route) => {
      const name = route.route ?? el("span", { class: "dim" }, "no route");
      const list = targets(known.get(route.route) ?? []);
      if (!route.requests) return [name, list, "none", null, null];
      const label = route.route ?? "no route";
      const client = sum(route.errors_4xx), server = sum(route.errors_5xx);
      const errors = route.errors_4xx.map((n, i) => n + route.errors_5xx[i]);
      const last = route.ttft_p95_ms.findLast((ms) => ms !== null);
      const draw = (values, words, description, bad) =>
        el("div", { class: "number" }, words, sparkline(values, `${label}: ${description}, last hour by the minute`, bad));
      return [
        name, list,
        draw(route.requests, count(busy(route)), some(busy(route), "request")),
        last === undefined ? null : draw(route.ttft_p95_ms, span(last), `time to the first token, 95th percentile, at last ${span(last)}`),
        client + server === 0 ? "none" : draw(errors, `${count(client)} × 4xx, ${count(server)} × 5xx`, some(client + server, "error"), true),
      ];
    });
  const made = el("div", {}, table("Routes", ["Route", "Targets", "Requests", "First token, p95", "Errors"], rows));
  const idle = history.routes.filter((route) => route.route !== null && !shown(route));
  if (idle.length > 0) {
    const others = idle.map((route) => [route.route, targets(known.get(route.route) ?? [])]);
    const name = rows.length > 0 ? `${some(idle.length, "route")} without requests` : "No requests yet";
    made.append(el("details", { id: "idle" }, el("summary", {}, name), table(name, ["Route", "Targets"], others)));
  }
  return made;
}

function failures(list) {
  if (list.length === 0) return el("p", { class: "dim" }, "None since the start.");
  const rows = list.map((one) => [
    moment(one.time), count(one.count), one.team, one.route, one.provider,
    el("span", { class: one.status >= 500 || one.status < 400 ? "bad" : "warn" }, String(one.status)),
    one.limit_scope ? `${one.reason}: ${one.limit_dimension} of the ${one.limit_scope}` : one.reason,
    el("code", {}, one.request_id),
  ]);
  return table("Recent refusals and failures", ["Last", "Count", "Team", "Route", "Provider", "Status", "Reason", "Last request id"], rows);
}

function limits(page) {
  if (page.limits.length === 0) return el("p", { class: "dim" }, "None configured.");
  const taken = (limit) => (limit.used + limit.reserved) / (limit.limit || 1);
  const amount = (limit, n) => limit.dimension === "usd" ? `$${n}` : count(n);
  const rows = [...page.limits].sort((a, b) => taken(b) - taken(a)).map((limit) => {
    const per = limit.dimension === "concurrent" ? "" : ` per ${limit.per ?? span(limit.per_ms)}`;
    const words = `${amount(limit, limit.remaining)} of ${amount(limit, limit.limit)} left`;
    const meter = { min: 0, max: 1, low: 0.8, high: 0.95, optimum: 0, value: Math.min(taken(limit), 1), "aria-label": `used, ${words}` };
    return [
      `${limit.scope} ${limit.name}`, `${limit.dimension}${per}`, (limit.routes ?? ["all"]).join(", "),
      el("span", { class: "number" }, words), el("meter", meter), limit.reset_ms > 0 ? span(limit.reset_ms) : null,
    ];
  });
  const by = { store: "Counted by the shared store.", none: "Not counted: the shared store fails." }[page.counted_by] ?? "Counted by this process.";
  return el("div", {}, el("p", { class: "hint" }, by), table("Limits", ["Of", "Limit", "Routes", "Left", "Used", "Full in"], rows));
}

function configuration(status) {
  const { configuration: now, reloads, limit_store: store, key_files: keys, upgrade } = status;
  const facts = [];
  const fact = (name, ...values) => facts.push(el("dt", {}, name), el("dd", {}, ...values));
  const list = (name, tone, values) => {
    if (values.length > 0) fact(name, el("ul", { class: tone }, ...values.map((value) => el("li", {}, value))));
  };
  fact("SHA-256 of the file", el("code", {}, now.sha256));
  fact("In force", `generation ${now.generation} since `, moment(now.applied));
  fact("Reloads", `${reloads.applied} applied`, ", ", el("span", { class: reloads.rejected ? "warn" : "" }, `${reloads.rejected} rejected`),
    ...(reloads.last_rejected ? [", the last one at ", moment(reloads.last_rejected)] : []));
  list("Problems of the last file, which is not in force", "bad", reloads.problems);
  list("Warnings", "warn", reloads.warnings);
  for (const one of status.jwks ?? []) {
    fact(`Keys of ${one.issuer}`, some(one.keys, "key"), ", ", el("span", { class: `badge ${one.failing ? "bad" : "good"}` }, one.failing ? "failing" : "fetched"),
      ...(one.last_failure ? [` last failure: ${one.last_failure.message}, `, moment(one.last_failure.time)] : []));
  }
  if (keys) fact("Key files", `${keys.in_force} in force`);
  list("Problems of key files", "bad", keys?.problems ?? []);
  if (store) {
    const state = store.failing ? ["bad", "failing"] : store.connected ? ["good", "connected"] : ["warn", "not connected"];
    fact("Limit store", store.address, " ", el("span", { class: `badge ${state[0]}` }, state[1]),
      ...(store.last_failure ? [` last failure: ${store.last_failure.message}, `, moment(store.last_failure.time)] : []));
  }
  if (upgrade.state !== "none") fact("Upgrade", upgrade.state, upgrade.problem ? `: ${upgrade.problem}` : null);
  for (const one of status.refused_members) {
    fact("Refused", `${one.member} by ${one.provider}/${one.model}: ${one.adjustment}, for ${span(one.left_out_for_ms)}`);
  }
  return el("dl", {}, ...facts);
}

const drawn = new Map(); // what each part shows, as text

/** Draws a part of the page if its data has changed, so that selections stay. What is open stays open. */
function draw(id, data, make) {
  const text = JSON.stringify(data);
  if (drawn.get(id) === text) return;
  const open = [...$(id).querySelectorAll("details[open]")].map((details) => details.id);
  $(id).replaceChildren(make());
  open.forEach((details) => $(details)?.setAttribute("open", ""));
  drawn.set(id, text);
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

let fresh = null; // when the data shown was fetched

async function refresh() {
  let documents;
  try {
    documents = await Promise.all(["/status", "/status/history", "/limits"].map(get));
  } catch {
    const since = fresh ? `the data shown is of ${fresh.toLocaleTimeString()}` : "there is no data yet";
    return stale(`The gateway does not answer; ${since}.`);
  }
  const [status, history, limit] = documents;
  try {
    const state = status.serving ? "serving" : "draining";
    $("version").textContent = status.version;
    $("state").className = status.serving ? "good" : "warn";
    const minutes = Math.floor(status.uptime_seconds / 60); // changes seldom, as screen readers announce each change
    const words = `${state}, up ${minutes > 0 ? span(minutes * 60000) : "less than a minute"}`;
    if ($("state").textContent !== words) $("state").textContent = words;
    draw("routes", [status.routes, history.routes], () => routes(status, history));
    draw("failures", history.failures, () => failures(history.failures));
    draw("limits", limit, () => limits(limit));
    draw("configuration", { ...status, uptime_seconds: 0, routes: [] }, () => configuration(status));
    fresh = new Date();
    $("stale").hidden = true;
    document.body.classList.remove("stale");
  } catch (error) {
    console.error(error);
    stale("This page cannot show the gateway's data; reload it.");
  }
}

/** Says why what is shown is not up to date. */
function stale(words) {
  if ($("stale").textContent !== words || $("stale").hidden) $("stale").textContent = words;
  $("stale").hidden = false;
  document.body.classList.add("stale");
}

async function run() {
  for (;;) {
    if (!document.hidden || !fresh) await refresh();
    await new Promise((done) => { setTimeout(done, INTERVAL); });
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
run();
