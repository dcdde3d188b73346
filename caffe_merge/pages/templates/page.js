"use strict";
// The page is whole without this: it adds zooming, details of a layer, sorting and filtering.
// Names come out of files of anybody: they are only ever set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const every = (selector, root = document) => [...root.querySelectorAll(selector)];
const element = (tag, text, kind) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

// -- dark and light: as the system has it, until the button says otherwise

const root = document.documentElement;
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  document.dispatchEvent(new Event("painted"));
});

// -- the details of one layer

const panel = document.getElementById("details");
let pinned = null;

function show(number, pin) {
  if (pinned !== null && !pin) return;
  const layer = data.layers && data.layers[number];
  if (!layer) return;
  for (const lit of every(".lit")) lit.classList.remove("lit");
  for (const lit of every(`[data-n="${number}"]`)) lit.classList.add("lit");
  pinned = pin ? number : null;
  const close = element("button", "\u00d7", "close");
  close.setAttribute("aria-label", "close");
  close.addEventListener("click", hide);
  const parts = [close, element("h3", layer.name), element("div", `${layer.type}, ${layer.fate}`, "soft")];
  for (const [pass, text] of layer.rewrites) parts.push(element("div", `${pass}: ${text}`, "said"));
  if (layer.stayed) parts.push(element("div", `still there: ${layer.stayed}`, "said refused"));
  const rest = layer.refusals.filter((refusal) => refusal[1] !== layer.stayed);
  for (const [pass, text] of rest) parts.push(element("div", `not ${pass}: ${text}`, "said refused"));
  const list = element("dl");
  for (const [title, text] of layer.rows) list.append(element("dt", title), element("dd", text));
  parts.push(list);
  const lines = difference(layer.before, layer.after);
  if (lines.childNodes.length) parts.push(lines);
  panel.replaceChildren(...parts);
  panel.hidden = false;
}

function hide() {
  if (!panel) return;
  pinned = null;
  panel.hidden = true;
  for (const lit of every(".lit")) lit.classList.remove("lit");
}

// The lines of both texts in order, with - and + where one of them alone has a line.
function difference(before, after) {
  const out = element("pre");
  const add = (mark, line, kind) => out.append(element("span", `${mark}${line}\n`, kind));
  const old = before || after, now = after || before;
  const common = old.map(() => new Array(now.length + 1).fill(0));
  common.push(new Array(now.length + 1).fill(0));
  for (let i = old.length - 1; i >= 0; i--)
    for (let j = now.length - 1; j >= 0; j--)
      common[i][j] = old[i] === now[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  let i = 0, j = 0;
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) { add("  ", old[i]); i++; j++; }
    else if (j >= now.length || (i < old.length && common[i + 1][j] >= common[i][j + 1])) add("- ", old[i++], "minus");
    else add("+ ", now[j++], "plus");
  }
  return out;
}

document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

// -- the picture: it scrolls as any page does; its size is what zooms

const scroller = document.querySelector(".scroller");
let goTo = () => {};
if (scroller) picture();

function picture() {
  const svg = scroller.querySelector("svg"), heads = every(".heads span", scroller);
  const size = svg.viewBox.baseVal, overview = document.querySelector(".overview");
  const places = every(".box", svg).map((box) => ({
    box, number: box.dataset.n, x: +box.dataset.x, y: +box.dataset.y, fate: box.dataset.fate,
  }));
  const most = 3, least = 0.05;
  let scale = 1;

  function zoom(next, x = scroller.clientWidth / 2, y = scroller.clientHeight / 2) {
    next = Math.min(most, Math.max(least, next));
    const left = (scroller.scrollLeft + x) / scale, top = (scroller.scrollTop + y) / scale;
    scale = next;
    svg.setAttribute("width", size.width * scale);
    svg.setAttribute("height", size.height * scale);
    for (const head of heads) head.style.width = `${(size.width * scale) / heads.length}px`;
    scroller.scrollLeft = left * scale - x;
    scroller.scrollTop = top * scale - y;
    draw();
  }
  // On a phone no smaller than can be read: the other side is scrolled to.
  const readable = () => (scroller.clientWidth < 600 ? 0.72 : 0.36);
  const fitting = () => Math.min(1.15, Math.max(readable(), scroller.clientWidth / size.width));
  const fit = () => { zoom(fitting(), 0, 0); };

  goTo = (number) => {
    const place = places.find((entry) => entry.number === String(number));
    if (!place) return;
    if (scale < 0.5) zoom(0.8);
    scroller.scrollTo({
      left: Math.max(0, place.x * scale - scroller.clientWidth / 3),
      top: Math.max(0, place.y * scale - scroller.clientHeight / 3),
      behavior: "smooth",
    });
  };

  // From change to change, by height.
  const stops = [...new Set(places.filter((entry) => entry.fate !== "kept").map((entry) => entry.y))].sort((a, b) => a - b);
  function step(way) {
    const middle = (scroller.scrollTop + scroller.clientHeight / 3) / scale;
    const ahead = way > 0 ? stops.find((y) => y > middle + 20) : [...stops].reverse().find((y) => y < middle - 20);
    if (ahead !== undefined) scroller.scrollTo({ top: ahead * scale - scroller.clientHeight / 3, behavior: "smooth" });
  }
  const actions = {
    in: () => zoom(scale * 1.25), out: () => zoom(scale / 1.25), fit,
    all: () => zoom(Math.min(scroller.clientWidth / size.width, (scroller.clientHeight - 30) / size.height)),
    next: () => step(1), previous: () => step(-1),
  };
  for (const button of every("[data-do]")) button.addEventListener("click", actions[button.dataset.do]);

  const corner = (event) => {
    const frame = scroller.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  scroller.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(scale * Math.exp(-event.deltaY / 300), ...corner(event));
  }, { passive: false });

  // A mouse drags; a finger scrolls by itself, two fingers zoom.
  let held = null, dragged = false, pinch = 0;
  scroller.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button === 0 && event.target.closest("svg")) held = event;
    dragged = false;
  });
  addEventListener("pointermove", (event) => {
    if (!held) return;
    if (Math.hypot(event.clientX - held.clientX, event.clientY - held.clientY) > 3) dragged = true;
    if (!dragged) return;
    scroller.classList.add("dragged");
    scroller.scrollLeft -= event.movementX;
    scroller.scrollTop -= event.movementY;
  });
  addEventListener("pointerup", () => { held = null; scroller.classList.remove("dragged"); });
  scroller.addEventListener("touchmove", (event) => {
    if (event.touches.length !== 2) return;
    event.preventDefault();
    const [a, b] = event.touches, apart = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    if (pinch) zoom((scale * apart) / pinch, ...corner({ clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 }));
    pinch = apart;
  }, { passive: false });
  scroller.addEventListener("touchend", () => { pinch = 0; });

  const boxAt = (event) => event.target.closest(".box");
  svg.addEventListener("click", (event) => {
    if (dragged) return;
    const box = boxAt(event);
    if (box) { pinned = null; show(box.dataset.n, true); } else hide();
  });
  if (matchMedia("(hover: hover)").matches) {
    svg.addEventListener("mouseover", (event) => { const box = boxAt(event); if (box && !held) show(box.dataset.n, false); });
    svg.addEventListener("mouseleave", () => { if (pinned === null) hide(); });
  }

  // The whole net in a strip beside it, with a frame around what is seen.
  const context = overview.getContext("2d");
  function draw() {
    const width = overview.clientWidth, height = scroller.clientHeight, ratio = devicePixelRatio || 1;
    overview.width = width * ratio;
    overview.height = height * ratio;
    overview.style.height = `${height}px`;
    context.scale(ratio, ratio);
    const colours = getComputedStyle(document.documentElement), pen = (name) => colours.getPropertyValue(`--${name}`);
    const down = height / size.height, across = (width - 4) / size.width;
    for (const { box, x, y, fate } of places) {
      const colour = stops.length ? "old" : box.children[1].classList[0];
      context.fillStyle = pen(box.classList.contains("beyond") ? "bad" : fate === "kept" ? colour : fate);
      context.fillRect(2 + x * across, y * down, Math.max(3, 176 * across), Math.max(1, 38 * down));
    }
    context.strokeStyle = pen("accent");
    context.lineWidth = 2;
    const seen = Math.max(6, ((scroller.clientHeight - 30) / scale) * down);
    context.strokeRect(1, Math.min(height - seen, (scroller.scrollTop / scale) * down), width - 2, seen);
  }
  const jump = (event) => {
    const share = (event.clientY - overview.getBoundingClientRect().top) / overview.clientHeight;
    scroller.scrollTop = share * size.height * scale - scroller.clientHeight / 2;
  };
  overview.addEventListener("pointerdown", (event) => { overview.setPointerCapture(event.pointerId); jump(event); });
  overview.addEventListener("pointermove", (event) => { if (event.buttons) jump(event); });
  let waiting = false;
  scroller.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  });
  document.addEventListener("painted", draw);
  addEventListener("resize", draw);
  fit();
}

// -- what a plot shows where it is pointed at

for (const plot of every(".plot")) {
  const reading = plot.parentNode.querySelector(".reading");
  for (const point of every("[data-text]", plot)) {
    const tell = () => { reading.textContent = point.dataset.text; };
    point.addEventListener("mouseover", tell);
    point.addEventListener("click", () => { tell(); if (point.dataset.n) { show(point.dataset.n, true); goTo(point.dataset.n); } });
  }
}

// -- tables: a click on a head sorts, the controls above filter

for (const table of every("table.sorts")) {
  const body = table.tBodies[0], rows = [...body.rows];
  every("th button", table).forEach((button) => {
    const head = button.closest("th"), column = head.cellIndex;
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of every("th", table)) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[column];
        return "v" in cell.dataset ? (cell.dataset.v === "" ? -Infinity : +cell.dataset.v) : cell.textContent.trim();
      };
      const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
      body.append(...rows.map((row) => [value(row), row]).sort((a, b) => way * compare(a[0], b[0]) || 0).map((pair) => pair[1]));
    });
  });
  const filters = every(`[data-filters="${table.id}"]`), count = document.getElementById(`${table.id}-count`);
  const filter = () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = !filters.every((control) => {
        const asked = control.value.toLowerCase();
        if (!asked) return true;
        if (control.tagName === "SELECT") return row.dataset[control.name].toLowerCase() === asked;
        return row.textContent.toLowerCase().includes(asked);
      });
      shown += !row.hidden;
    }
    if (count) count.textContent = shown === rows.length ? `${rows.length}` : `${shown} of ${rows.length}`;
  };
  for (const control of filters) control.addEventListener("input", filter);
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-n]");
    if (row && !event.target.closest("a")) { show(row.dataset.n, true); goTo(row.dataset.n); }
  });
}
for (const link of every("a[data-to]")) {
  link.addEventListener("click", (event) => { event.preventDefault(); show(link.dataset.to, true); goTo(link.dataset.to); });
}
