import { Queue } from "./queue.js";

const AT_ONCE = 60; // pictures of the list loaded at a time
const AHEAD = 4; // pictures loaded before they are shown
const DONE = { approve: "approved", reject: "rejected", redraw: "to be drawn again", retire: "retired" };

const by = (id) => document.getElementById(id);
const meta = (name) => document.querySelector(`meta[name=${name}]`).content;
const state = {
  filter: Object.fromEntries(new URLSearchParams(location.search)),
  items: [],
  cells: [],
  at: -1,
  selected: new Set(),
  history: [],
  loading: null,
  done: false,
  total: 0,
  saved: 0,
  details: new Map(),
};
state.filter.show ??= "review";
const queue = new Queue(meta("store"), meta("csrf"), answered);

// The list

function address(extra = {}) {
  return new URLSearchParams(Object.entries({ ...state.filter, ...extra }).filter(([, value]) => value));
}

async function load() {
  if (state.done) return;
  state.loading ??= loadMore().finally(() => (state.loading = null));
  await state.loading;
}

async function loadMore() {
  const filter = state.filter;
  const last = state.items.at(-1);
  const answer = await ask(`/api/pictures?${address({ count: AT_ONCE, after: last?.image_id })}`);
  if (!answer || filter !== state.filter) return;
  if (!last) fillFilters(answer);
  state.done = answer.done;
  state.total = state.items.length ? state.total : answer.total;
  for (const item of answer.items) addCell(item);
  by("count").textContent = `${state.total.toLocaleString("en")} ${state.total === 1 ? "picture" : "pictures"}`;
  if (state.at < 0) {
    const wanted = state.items.findIndex((item) => item.image_id === location.hash.slice(1));
    show(Math.max(wanted, 0));
  }
}

async function ask(path) {
  try {
    const answer = await fetch(path);
    if (answer.ok) return await answer.json();
    say(answer.status === 404 ? "This picture is gone." : ((await answer.json()).detail ?? "The server failed."), true);
  } catch {
    say("The server does not answer.", true);
  }
  return null;
}

function addCell(item) {
  const row = document.createElement("li");
  const cell = document.createElement("button");
  const place = state.items.length;
  const picture = Object.assign(document.createElement("img"), { src: `/pictures/${item.image_id}`, alt: "", loading: "lazy", decoding: "async" });
  const mark = Object.assign(document.createElement("span"), { className: "mark" });
  const label = Object.assign(document.createElement("span"), { className: "label", textContent: item.title ?? item.sku, dir: "auto" });
  cell.type = "button";
  cell.title = item.title ?? item.sku;
  cell.append(picture, mark, label);
  cell.addEventListener("click", (event) => {
    if (event.shiftKey) selectTo(place);
    else if (event.ctrlKey || event.metaKey) toggle(place);
    show(place);
  });
  row.append(cell);
  item.before = item.decision;
  state.items.push(item);
  state.cells.push(cell);
  by("grid").append(row);
  drawCell(place);
}

function drawCell(place) {
  const item = state.items[place];
  const cell = state.cells[place];
  const decided = item.decision ?? "";
  cell.dataset.decided = decided;
  cell.classList.toggle("fresh", item.decision !== item.before);
  cell.setAttribute("aria-current", String(place === state.at));
  cell.setAttribute("aria-pressed", String(state.selected.has(place)));
  cell.querySelector(".mark").textContent = DONE[decided] ?? "";
}

function fillFilters(answer) {
  const options = (select, first, entries, chosen) => {
    select.replaceChildren(new Option(first, ""), ...entries.map(([value, text]) => new Option(text, value)));
    if (chosen && !entries.some(([value]) => value === chosen)) select.append(new Option(chosen, chosen));
    select.value = chosen ?? "";
  };
  const reasons = Object.entries(answer.reasons).map(([value, { words, count }]) => [value, `${words} (${count})`]);
  const categories = Object.entries(answer.categories).map(([value, count]) => [value, `${value} (${count})`]);
  options(by("category"), "All categories", categories, state.filter.category);
  options(by("reason"), "All reasons", reasons, state.filter.reason);
}

function refilter(change) {
  state.filter = { ...state.filter, ...change };
  Object.assign(state, { items: [], cells: [], at: -1, done: false, loading: null });
  state.selected.clear();
  by("grid").replaceChildren();
  by("detail").hidden = true;
  history.replaceState(null, "", `?${address()}`);
  drawFilter();
  load();
}

function drawFilter() {
  for (const button of document.querySelectorAll("[data-show]")) {
    button.setAttribute("aria-pressed", String(button.dataset.show === state.filter.show));
  }
  by("text").value = state.filter.text ?? "";
}

// The picture

async function show(place) {
  if (!state.items[place]) {
    by("detail").hidden = true;
    return;
  }
  const before = state.at;
  state.at = place;
  if (state.items[before]) drawCell(before);
  drawCell(place);
  const item = state.items[place];
  by("detail").hidden = false;
  by("picture").src = `/pictures/${item.image_id}`;
  by("picture").dataset.id = item.image_id;
  by("picture").alt = item.title ?? item.sku;
  by("title").textContent = item.title ?? item.sku;
  by("title").lang = item.language ?? "";
  by("place").textContent = `${item.category} · ${item.sku}${item.image_index ? ` · image ${item.image_index + 1}` : ""} · attempt ${item.attempt}`;
  by("score").textContent = item.score === null ? "none" : `${short(item.score)}, needed ${short(item.threshold)}`;
  const texts = (texts) => texts.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  by("reasons").replaceChildren(...texts(item.reasons));
  drawVerdict(item);
  drawColours(item, state.details.get(item.image_id));
  history.replaceState(null, "", `?${address()}#${item.image_id}`);
  state.cells[place].scrollIntoView({ block: "nearest", inline: "nearest" });
  for (let next = place + 1; next <= place + AHEAD && state.items[next]; next += 1) {
    new Image().src = `/pictures/${state.items[next].image_id}`;
  }
  if (place + 20 > state.items.length) load();
  await detailOf(item);
  if (state.items[state.at] === item) drawColours(item, state.details.get(item.image_id));
}

async function detailOf(item) {
  if (state.details.has(item.image_id)) return;
  const found = await ask(`/api/pictures/${item.image_id}`);
  if (state.details.size > 200) state.details.delete(state.details.keys().next().value);
  if (found) state.details.set(item.image_id, found);
}

function short(number) {
  return number < 0.01 ? number.toPrecision(1) : number.toFixed(2);
}

function drawVerdict(item) {
  const who = item.decided_by ? ` by ${item.decided_by}` : "";
  const machine = item.live ? "live" : item.machine === "review" ? "waits for a person" : "not live";
  by("verdict").textContent = item.decision ? `${DONE[item.decision] ?? item.decision}${who}${item.reason ? `: ${item.reason}` : ""}` : machine;
  by("verdict").dataset.decided = item.decision ?? "";
}

function drawColours(item, detail) {
  by("wanted").style.background = item.wanted_colour ?? "transparent";
  by("found").style.background = detail?.found_colour ?? "transparent";
  const away = item.colour_delta_e === null ? "" : `, distance ${item.colour_delta_e.toFixed(1)}`;
  const wanted = item.wanted_colour ? `wanted ${item.wanted_colour}` : "none wanted";
  by("colours").textContent = `${wanted}, found ${detail?.found_colour ?? "…"}${away}`;
  const figures = Object.entries(detail?.conditions ?? {}).map(([kind, digest]) =>
    figure(`/conditions/${item.image_id}/${digest}?kind=${kind}`, `its ${kind}`),
  );
  const others = (detail?.others ?? []).map((other) =>
    figure(
      other.has_file ? `/pictures/${other.image_id}` : null,
      `attempt ${other.attempt}: ${DONE[other.decision] ?? (other.live ? "live" : other.reasons.join(", ") || other.machine)}`,
    ),
  );
  by("beside").replaceChildren(...figures, ...others);
}

function figure(source, text) {
  const made = document.createElement("figure");
  if (source) made.append(Object.assign(document.createElement("img"), { src: source, alt: "" }));
  else made.append(Object.assign(document.createElement("div"), { className: "none", textContent: "not kept" }));
  made.append(Object.assign(document.createElement("figcaption"), { textContent: text }));
  return made;
}

// Decisions

function decide(kind) {
  const name = by("by").value.trim();
  if (!name) {
    say("Please enter your name first.", true);
    by("by").focus();
    return;
  }
  const places = state.selected.size ? [...state.selected].sort((one, other) => one - other) : [state.at];
  const why = by("why").value.trim() || null;
  const made = [];
  for (const place of places.filter((each) => state.items[each])) {
    const item = state.items[place];
    const id = Queue.newId();
    made.push({ decision_id: id, decision: kind, image_id: item.image_id, by: name, reason: why });
    const { decision, decided_by, reason } = item;
    state.history.push({ id, item, before: { decision, decided_by, reason }, group: made });
    Object.assign(item, { decision: kind, decided_by: name, reason: why });
  }
  if (!made.length) return;
  by("why").value = "";
  state.selected.clear();
  state.items.forEach((item, place) => places.includes(place) && drawCell(place));
  queue.add(made);
  tell();
  goOn(Math.max(...places));
}

function goOn(from) {
  const next = state.items.findIndex((item, place) => place > from && item.decision === item.before);
  if (next >= 0) show(next);
  else if (state.done) show(Math.min(from + 1, state.items.length - 1));
  else {
    const before = state.items.length;
    // A failed load adds nothing and has shown its error. The next decision tries to load again.
    load().then(() => {
      if (state.items.length > before || state.done) goOn(from);
    });
  }
}

// Takes back the last decision, with all pictures that it was about.
function undo() {
  const group = state.history.at(-1)?.group;
  if (!group) return say("There is nothing to take back on this page.");
  const back = [];
  let first = null;
  while (state.history.at(-1)?.group === group) {
    const { id, item, before } = state.history.pop();
    if (!queue.drop(id)) {
      back.push({ decision_id: Queue.newId(), decision: "undo", image_id: item.image_id, by: by("by").value.trim(), undoes: id });
    }
    Object.assign(item, before);
    const place = state.items.indexOf(item);
    if (place >= 0) {
      drawCell(place);
      first = place;
    }
  }
  queue.add(back);
  tell();
  if (first !== null) show(first);
}

function answered(answer) {
  if (answer.problem) return tell(answer.problem);
  state.saved += answer.saved.length;
  const refused = Object.values(answer.refused);
  for (const entry of state.history.filter(({ id }) => id in answer.refused)) Object.assign(entry.item, entry.before);
  state.history = state.history.filter(({ id }) => !(id in answer.refused));
  if (refused.length) {
    state.items.forEach((_, place) => drawCell(place));
    return say(`Not saved: ${refused[0]}${refused.length > 1 ? `, and ${refused.length - 1} more` : ""}`, true);
  }
  tell();
}

function tell(problem) {
  const waiting = queue.size ? `${queue.size} not saved yet` : "";
  if (problem) return say(`${waiting}: ${problem}. They are kept here and sent again.`, true);
  say([waiting, state.saved ? `${state.saved} saved` : ""].filter(Boolean).join(", "));
}

function say(text, isBad = false) {
  by("status").textContent = text;
  by("status").classList.toggle("bad", isBad);
}

// Selection and input

function toggle(place) {
  if (!state.selected.delete(place)) state.selected.add(place);
  drawCell(place);
}

function selectTo(place) {
  const [low, high] = [Math.min(state.at, place), Math.max(state.at, place)];
  for (let each = low; each <= high; each += 1) {
    state.selected.add(each);
    drawCell(each);
  }
}

function move(step, isSelecting) {
  const next = state.at + step;
  if (!state.items[next]) return;
  if (isSelecting) selectTo(next);
  show(next);
}

function clearSelection() {
  const places = [...state.selected];
  state.selected.clear();
  places.forEach(drawCell);
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    a: () => decide("approve"),
    r: () => decide("reject"),
    d: () => decide("redraw"),
    u: undo,
    x: () => toggle(state.at),
    Escape: clearSelection,
    ArrowRight: () => move(1, event.shiftKey),
    ArrowDown: () => move(1, event.shiftKey),
    ArrowLeft: () => move(-1, event.shiftKey),
    ArrowUp: () => move(-1, event.shiftKey),
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

for (const button of document.querySelectorAll("[data-decide]")) {
  button.addEventListener("click", () => decide(button.dataset.decide));
}
for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => refilter({ show: button.dataset.show, category: "", reason: "" }));
}
by("undo").addEventListener("click", undo);
by("category").addEventListener("change", (event) => refilter({ category: event.target.value, reason: "" }));
by("reason").addEventListener("change", (event) => refilter({ reason: event.target.value }));
by("text").addEventListener("change", (event) => refilter({ text: event.target.value.trim() }));
by("by").value = meta("by") || localStorage.getItem("toygan-review-by") || "";
by("by").addEventListener("change", (event) => localStorage.setItem("toygan-review-by", event.target.value.trim()));
new IntersectionObserver(([entry]) => entry.isIntersecting && state.items.length && load(), { rootMargin: "600px" }).observe(by("end"));

drawFilter();
load();
queue.send();
tell();
