"use strict";
// The page of `lisard watch`: shows the events of the server. Whatever a node sends is set as text, never as HTML.

const MOST_SAMPLES = 600;
const DROPS = ["replaced", "too_old", "lost_in_transport", "failed"];
const PROGRESS = ["passed", "case", "case_name", "images", "elapsed_s", "last"];
const LEVELS = ["ok", "warning", "error"];
const LINES = ["#2f6f9f", "#b3372b", "#1f7a4a", "#8a5a00"];
const token = new URLSearchParams(location.search).get("token") ?? "";
const cards = new Map();
const byId = (id) => document.getElementById(id);

function address(path, values = {}) {
  return path + "?" + new URLSearchParams({ ...values, token });
}

function setBadge(element, text, level) {
  element.textContent = text;
  element.className = "badge " + (level === 0 ? "good" : "bad");
}

function fillTable(body, pairs) {
  body.replaceChildren(...pairs.map(([key, value]) => {
    const row = document.createElement("tr");
    const first = row.insertCell(), second = row.insertCell();
    first.className = "key";
    first.textContent = key;
    second.textContent = value;
    return row;
  }));
}

// --- cameras --------------------------------------------------------------------------------------------------------

function makeChart(parent, title, names) {
  const ink = getComputedStyle(document.body).getPropertyValue("--soft");
  const grid = { stroke: getComputedStyle(document.body).getPropertyValue("--line"), width: 1 };
  const options = {
    title, width: parent.clientWidth || 300, height: 150, cursor: { show: false }, legend: { live: false },
    scales: { y: { range: (_, low, high) => [0, Math.max(1, (high ?? 1) * 1.1)] } },
    axes: [{ stroke: ink, grid }, { stroke: ink, grid, size: 52 }],
    series: [{}, ...names.map((label, i) => ({
      label, stroke: LINES[i], width: 1.5, points: { show: false },
    }))],
  };
  const chart = new uPlot(options, [[], ...names.map(() => [])], parent);
  new ResizeObserver(() => chart.setSize({ width: parent.clientWidth, height: 150 })).observe(parent);
  return chart;
}

function cardOf(name) {
  if (cards.has(name)) return cards.get(name);
  const root = byId("camera").content.cloneNode(true).firstElementChild;
  root.dataset.camera = name;
  root.querySelector(".name").textContent = name;
  byId("cameras").append(root);
  const card = {
    root, samples: [], stamp: "",
    canvas: root.querySelector("canvas"),
    latency: makeChart(root.querySelector(".latency"), "Latency, arrival to answer (ms)", ["p50", "p95", "p99"]),
    drops: makeChart(root.querySelector(".drops"), "Images without an answer (per second)", DROPS),
  };
  cards.set(name, card);
  return card;
}

function showCamera(view) {
  const card = cardOf(view.name);
  setBadge(card.root.querySelector(".badge"), LEVELS[view.status.level] ?? "error", view.status.level);
  card.root.querySelector(".message").textContent = view.status.level ? view.status.message : "";
  const values = Object.fromEntries(view.status.values);
  card.root.querySelector(".topic").textContent =
    `${values.topic ?? ""} · ${values.rate_hz ?? "0"} Hz answered · ${values.received ?? 0} received, ` +
    `${values.answered ?? 0} answered, ${values.replaced ?? 0} replaced, ${values.failed ?? 0} failed, ` +
    `${values.lost_in_transport ?? 0} lost in transport`;
  if (view.samples.length) {
    card.samples = [...card.samples, ...view.samples].slice(-MOST_SAMPLES);
    const times = card.samples.map((one) => one.time_s);
    card.latency.setData([times, ...["p50_ms", "p95_ms", "p99_ms"].map((key) => card.samples.map((one) => one[key]))]);
    card.drops.setData([times, ...DROPS.map((key) => card.samples.map((one) => one.drops[key]))]);
  }
  if (view.frame && view.frame.stamp_ns + Boolean(view.frame.answer) !== card.stamp) loadFrame(card, view);
}

function loadFrame(card, view) {
  const { frame, name } = view;
  card.stamp = frame.stamp_ns + Boolean(frame.answer);
  const image = new Image();
  image.onload = () => drawFrame(card, image, frame);
  image.src = address("/image", { camera: name, stamp: frame.stamp_ns });
}

function drawFrame(card, image, frame) {
  const { canvas } = card, context = canvas.getContext("2d");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  context.drawImage(image, 0, 0);
  const scale = image.naturalWidth / frame.width_px;
  const words = [];
  context.lineWidth = 2;
  context.font = "14px system-ui, sans-serif";
  for (const box of frame.answer?.boxes ?? []) {
    const [left, top, right, bottom] = box.xyxy_px.map((value) => value * scale);
    const text = `${box.label} ${box.score.toFixed(2)}${box.track ? " #" + box.track : ""}`;
    context.strokeStyle = "#ffd400";
    context.strokeRect(left, top, right - left, bottom - top);
    const width = context.measureText(text).width + 8, y = top > 20 ? top - 20 : top;
    context.fillStyle = "#ffd400";
    context.fillRect(left - 1, y, width, 20);
    context.fillStyle = "#000";
    context.fillText(text, left + 3, y + 15);
    words.push(text);
  }
  for (const [label, score] of frame.answer?.classes ?? []) words.push(`${label} ${score.toFixed(2)}`);
  const said = !frame.answer ? "not answered" : words.join(", ") || "nothing found";
  card.root.querySelector("figcaption").textContent = said;
  canvas.setAttribute("aria-label", `Camera image: ${said}`);
}

// --- the node -------------------------------------------------------------------------------------------------------

function showInjection(status, canAct) {
  const on = status && new Map(status.values).get("enabled") === "true";
  byId("injection-on").disabled = !canAct || on;
  byId("injection-off").disabled = !canAct || !on;
  byId("injection-message").textContent = status?.message ?? "";
  fillTable(byId("injection-values"), status?.values ?? []);
}

// Of "2 of 5" cases and "30 of 100" images the share that is done.
function shareDone(values) {
  const [[number, cases], [done, images]] = ["case", "images"].map((key) => (values.get(key) ?? "").split(" of ").map(Number));
  return cases ? (number - 1 + (images ? done / images : 0)) / cases : 0;
}

function showSelfTest(status, canAct) {
  const values = new Map(status?.values ?? []);
  const running = values.has("elapsed_s");
  byId("self-test-run").disabled = !canAct || running || byId("self-test-run").dataset.busy === "1";
  byId("self-test-cancel").disabled = !canAct || !running;
  byId("self-test-message").textContent = status?.message ?? "No self test has been run.";
  byId("self-test-progress").hidden = !running;
  if (running) byId("self-test-progress").value = shareDone(values);
  fillTable(byId("self-test-cases"), [...values].filter(([key]) => !PROGRESS.includes(key)));
}

function show(page) {
  setBadge(byId("state"), page.state, page.alive ? 0 : 2);
  byId("source").textContent = page.source;
  byId("others").hidden = !page.others.length;
  byId("others").textContent = `Also reporting: ${page.others.join(", ")}. Choose one with --node.`;
  byId("no-cameras").hidden = page.cameras.length > 0;
  page.cameras.forEach(showCamera);
  const statuses = new Map(page.statuses.map((status) => [status.name, status]));
  showInjection(statuses.get("injection"), page.can_act);
  showSelfTest(statuses.get("self_test"), page.can_act);
  byId("injection").hidden = !page.can_act && !statuses.has("injection");
  byId("self-test").hidden = !page.can_act && !statuses.has("self_test");
  const rest = page.statuses.filter(({ name }) => !["injection", "self_test"].includes(name));
  byId("rest").hidden = !rest.length;
  fillTable(byId("statuses"), rest.flatMap(({ name, level, message, values }) => [
    [name, (level ? LEVELS[level] + ": " : "") + message],
    ...values.map(([key, value]) => ["  " + key, value]),
  ]));
}

// --- buttons --------------------------------------------------------------------------------------------------------

function ask(title, text) {
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  const dialog = byId("ask");
  dialog.showModal();
  return new Promise((settle) => {
    byId("ask-yes").onclick = () => { dialog.close(); settle(true); };
    byId("ask-no").onclick = () => { dialog.close(); settle(false); };
    dialog.oncancel = () => settle(false);
  });
}

async function act(button, title, text, path, values = {}) {
  if (!await ask(title, text)) return;
  button.dataset.busy = "1";
  let said;
  try {
    const response = await fetch(address(path, values), { method: "POST" });
    said = await response.text();
  } catch (error) {
    said = "lisard watch does not answer: " + error.message;
  }
  delete button.dataset.busy;
  byId("answer").textContent = said;
  byId("answer").hidden = false;
  setTimeout(() => { byId("answer").hidden = true; }, 8000);
}

const buttons = {
  "injection-on": ["Switch injection on?", "Attacked copies of live frames are answered beside the operational ones.", "/injection", { on: "true" }],
  "injection-off": ["Switch injection off?", "The injection process ends.", "/injection", { on: "false" }],
  "self-test-run": ["Run the self test?", "The node attacks images and compares its answers with limits. That may take minutes.", "/self_test"],
  "self-test-cancel": ["Cancel the self test?", "A cancelled test has not passed.", "/cancel_self_test"],
};
for (const [id, words] of Object.entries(buttons)) byId(id).onclick = () => act(byId(id), ...words);

const events = new EventSource(address("/events"));
events.onmessage = (event) => show(JSON.parse(event.data));
// After a break the server sends its whole history again.
events.onopen = () => cards.forEach((card) => { card.samples = []; });
// A browser tries again after a lost connection, and never after a refusal: another run of the server has another token.
events.onerror = () => setBadge(byId("state"), events.readyState === EventSource.CLOSED
  ? "lisard watch refuses this page: open the URL that it printed last"
  : "lisard watch does not answer; trying again", 2);
