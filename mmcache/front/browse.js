// Browse a cache: a grid of thumbnails that holds ten million as easily as ten.
//
// It needs something with `ask(message) -> Promise<{json, bytes}>`, and knows neither notebook nor
// web page. Thumbnails are asked for a chunk at a time, only those in view; each chunk is one JPEG.
// Every text from the cache is set as textContent, never as markup.

const CHUNK = 48; // thumbnails of one request
const KEPT = 14; // chunks that are kept
const AT_ONCE = 2; // requests for thumbnails under way
const TALLEST = 8e6; // pixels of an element; browsers end somewhere above 16 million
const GAP = 16; // pixels between thumbnails
const LINES = 40; // pixels below a thumbnail, for its key and its label
const FAILURE = 46; // pixels of a failure in their list
const TYPED = 200; // milliseconds without a key until what was typed is looked for
const JUMPED = 60; // milliseconds of rest, after a jump, until thumbnails are asked for
const SLOW = 1500; // milliseconds until it is said that an answer is awaited

let views = 0; // in this page, which give their elements names

const number = (count) => count.toLocaleString("en-US");
const counted = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;

/** Make an element: `make("button", {class: "x", text: "y", onclick: f}, child, ...)`. */
function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  // JupyterLab takes keys for its own, "b" for a new cell, unless what has the focus says this.
  if (element.matches("[tabindex], button, input, select, textarea"))
    element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.append(...children);
  return element;
}

/** A colour for a label, far from that of the next; it reads on light and on dark. */
function colourOf(label) {
  return label < 0 ? "transparent" : `hsl(${Math.round(label * 137.508) % 360} 65% 50%)`;
}

// Where the grid is scrolled to --------------------------------------------------------------------

/**
 * A scrolled height without end: `top` is exact, whatever the browser can scroll.
 *
 * Up to TALLEST pixels the browser scrolls. Beyond, its bar stands for all of the height: a jump of
 * the bar is a jump in proportion, while the wheel, a finger and the keys move by exact pixels.
 */
class Scroller {
  constructor(element, space, moved) {
    Object.assign(this, { element, space, moved, top: 0, total: 0, at: 0 });
    element.addEventListener("scroll", () => this.scrolled());
    element.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
  }
  get height() {
    return this.element.clientHeight;
  }
  get most() {
    return Math.max(0, this.total - this.height);
  }
  get mapped() {
    return this.total > TALLEST;
  }
  get reach() {
    return Math.max(1, Math.min(this.total, TALLEST) - this.height);
  }
  resize(total) {
    this.total = total;
    this.space.style.height = `${Math.min(total, TALLEST)}px`;
    this.to(this.top);
  }
  to(top) {
    this.top = Math.max(0, Math.min(top, this.most));
    this.settle();
    this.moved();
  }
  /** Bring the bar to where it belongs. */
  settle() {
    this.at = this.mapped ? Math.round((this.top / this.most) * this.reach) : this.top;
    this.element.scrollTop = this.at;
  }
  scrolled() {
    const now = this.element.scrollTop;
    const by = now - this.at;
    if (Math.abs(by) < 1.5) return;
    this.at = now;
    if (!this.mapped) this.top = now;
    else if (Math.abs(by) < this.height) {
      this.top = Math.max(0, Math.min(this.top + by, this.most));
      clearTimeout(this.later);
      this.later = setTimeout(() => this.settle(), 200);
    } else this.top = Math.min(1, now / this.reach) * this.most;
    this.moved();
  }
  wheeled(event) {
    if (!this.mapped || event.ctrlKey) return;
    const unit = [1, 20, this.height][event.deltaMode];
    const before = this.top;
    this.to(before + event.deltaY * unit);
    if (this.top !== before) event.preventDefault();
  }
}

// What is shown --------------------------------------------------------------------------------------

class Browser {
  constructor(root, asker, { edge = 128, height = null } = {}) {
    Object.assign(this, { root, asker, edge, name: `mmcache-${++views}` });
    this.filter = { label: null, text: "", shape: null };
    this.failures = false; // whether failures are listed instead of pictures
    this.count = 0;
    this.cursor = 0; // the position that keys move
    this.anchor = 0; // the position that a range begins at
    this.chunks = new Map(); // of positions / CHUNK to {items, bitmap}
    this.underway = new Map(); // of the same to an AbortController
    this.cells = new Map(); // of positions to elements
    this.selection = [0, 0]; // how often it changed, and how many are selected
    this.turn = 0; // counts filters: what comes for an earlier one is dropped
    this.opened = null; // the position that is enlarged
    this.build(height);
    this.watchTheme();
    this.start();
  }

  build(height) {
    const root = this.root;
    root.classList.add("mmcache");
    if (height) root.style.height = `${height}px`;
    this.text = make("input", {
      class: "mmcache-text", type: "search", placeholder: "key contains", spellcheck: "false",
      "aria-label": "show pictures whose key contains", maxlength: "300",
      oninput: () => {
        clearTimeout(this.typing);
        this.typing = setTimeout(() => this.refilter({ text: this.text.value }), TYPED);
      },
    });
    this.label = make("select", {
      "aria-label": "show one label", hidden: true,
      onchange: () => this.refilter({ label: this.label.value && Number(this.label.value) }),
    });
    this.shape = make("select", {
      "aria-label": "show one shape, height by width", hidden: true,
      onchange: () => this.refilter({ shape: this.shape.value && JSON.parse(this.shape.value) }),
    });
    this.failed = make("button", {
      type: "button", "aria-pressed": "false", hidden: true, class: "mmcache-failed",
      onclick: () => this.showFailures(!this.failures),
    });
    this.go = make("input", {
      class: "mmcache-go", type: "text", inputmode: "numeric", placeholder: "go to row",
      "aria-label": "go to row",
      onkeydown: (event) => event.key === "Enter" && this.goTo(this.go.value),
    });
    this.told = make("span", { class: "mmcache-count", role: "status" });
    const bar = make("div", { class: "mmcache-bar", role: "search" },
      this.text, this.label, this.shape, this.failed, this.go, this.told);

    this.chosen = make("span", { class: "mmcache-chosen", role: "status" });
    const button = (text, does, title) => make("button", { type: "button", text, title, onclick: does });
    this.clear = button("Clear", () => this.select([], "only"), "select nothing");
    this.copyRows = button("Copy rows", () => this.copy("rows"), "copy a Python list of the rows");
    this.copyKeys = button("Copy keys", () => this.copy("keys"), "copy the keys, a line each");
    this.all = button("Select all shown", () => this.selectAll(), "Ctrl+A");
    this.picks = make("div", { class: "mmcache-picks" },
      this.all, this.chosen, this.clear, this.copyRows, this.copyKeys);

    this.layer = make("div", { class: "mmcache-layer", role: "presentation" });
    const space = make("div", { class: "mmcache-space", role: "presentation" }, this.layer);
    this.grid = make("div", {
      class: "mmcache-grid", tabindex: "0", role: "listbox", "aria-multiselectable": "true",
      "aria-label": "pictures: arrows move, Enter enlarges, space selects",
      onkeydown: (event) => this.key(event),
      onfocus: () => this.draw(),
      onblur: () => this.draw(),
    }, space);
    this.scroller = new Scroller(this.grid, space, () => this.draw());
    this.layer.addEventListener("click", (event) => this.clicked(event));

    this.status = make("div", { class: "mmcache-status", role: "alert" });
    this.buildDetail();
    root.replaceChildren(bar, this.picks, this.grid, this.status, this.detail);
    this.watch = new ResizeObserver(() => this.layout());
    this.watch.observe(this.grid);
    this.showSelection();
  }

  /** Follow what surrounds it: where the text is light, what lies behind is dark. */
  watchTheme() {
    const look = () => {
      const parts = getComputedStyle(this.root).color.match(/[\d.]+/g) ?? [0, 0, 0];
      const light = parts.slice(0, 3).reduce((sum, part) => sum + Number(part), 0) > 384;
      this.root.dataset.theme = light ? "dark" : "light";
    };
    this.themes = new MutationObserver(() => setTimeout(look, 50));
    for (const element of [document.documentElement, document.body])
      this.themes.observe(element, { attributes: true });
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", (this.look = look));
    setTimeout(look, 0);
  }

  close() {
    this.closed = true;
    this.watch.disconnect();
    this.themes.disconnect();
    this.dark.removeEventListener("change", this.look);
    this.closeDetail();
    this.forget();
    this.root.replaceChildren();
  }

  // Questions and answers ---------------------------------------------------------------------------

  /** Ask; an error is said in the status line and thrown, and a slow answer is awaited aloud. */
  async ask(message, signal) {
    const slow = setTimeout(() => this.say("waiting for an answer; is the kernel busy?"), SLOW);
    try {
      const answer = await this.asker.ask(message, signal);
      if (answer.json.error) throw new Error(answer.json.error);
      if (!signal?.aborted) this.say("");
      this.heard(answer.json, message);
      return answer;
    } catch (error) {
      if (!signal?.aborted) this.say(error.message);
      throw error;
    } finally {
      clearTimeout(slow);
    }
  }

  say(sentence) {
    if (!this.closed && this.status.textContent !== sentence) this.status.textContent = sentence;
  }

  /** Look whether the selection is as it was: another view may have changed it. */
  heard(json, message = {}) {
    if (!json.selection) return;
    const [before] = this.selection;
    const [now] = json.selection;
    this.selection = json.selection;
    this.showSelection();
    const mine = message.ask === "select" && now === before + 1;
    if (now !== before && !mine && message.ask !== "outline") this.remark();
  }

  async start() {
    try {
      const { json } = await this.ask({ ask: "outline" });
      this.outline = json;
      this.count = json.total;
      this.label.hidden = !json.labelled;
      this.label.replaceChildren(
        make("option", { value: "", text: "all labels" }),
        ...json.classes.map((name, place) => make("option", { value: String(place), text: name })),
        make("option", { value: "-1", text: "(no label)" }),
      );
      this.shape.hidden = json.shapes.length < 2;
      this.shape.replaceChildren(
        make("option", { value: "", text: "all shapes" }),
        ...json.shapes.map(([high, wide]) =>
          make("option", { value: JSON.stringify([high, wide]), text: `${high} x ${wide}` })),
      );
      this.failed.hidden = !json.failures;
      this.failed.textContent = counted(json.failures, "failure");
      this.showCount();
      this.layout();
    } catch {
      // It was said.
    }
  }

  async refilter(change) {
    for (const [name, value] of Object.entries(change))
      this.filter[name] = value === "" && name !== "text" ? null : value;
    const turn = ++this.turn;
    this.told.textContent = "looking …";
    try {
      const { json } = this.failures
        ? await this.ask({ ask: "failures", filter: this.filter, start: 0, stop: 0 })
        : await this.ask({ ask: "filter", filter: this.filter });
      if (turn !== this.turn) return;
      this.count = json.count;
    } catch {
      if (turn !== this.turn) return;
      this.count = 0;
    }
    this.cursor = this.anchor = 0;
    this.forget();
    this.scroller.top = 0;
    this.showCount();
    this.layout();
  }

  showFailures(shown) {
    this.failures = shown;
    this.failed.setAttribute("aria-pressed", String(shown));
    this.root.classList.toggle("mmcache-listing", shown);
    this.label.disabled = this.shape.disabled = this.go.disabled = shown;
    this.refilter({});
  }

  showCount() {
    const [total, one] = this.failures
      ? [this.outline.failures, "failure"]
      : [this.outline?.total ?? 0, "picture"];
    this.told.textContent =
      this.count === total ? counted(total, one) : `${number(this.count)} of ${counted(total, one)}`;
    this.all.disabled = !this.count || this.failures;
    this.all.textContent = this.count === total ? "Select all" : "Select all shown";
  }

  showSelection() {
    const [, count] = this.selection;
    this.chosen.textContent = count ? `${number(count)} selected` : "nothing selected";
    for (const element of [this.clear, this.copyRows, this.copyKeys]) element.disabled = !count;
  }

  // The grid ------------------------------------------------------------------------------------------

  layout() {
    if (this.closed || !this.grid.clientWidth) return;
    const width = this.layer.clientWidth;
    const first = this.columns ? Math.floor(this.scroller.top / this.high) * this.columns : 0;
    const part = this.columns ? (this.scroller.top % this.high) / this.high : 0;
    this.columns = this.failures ? 1 : Math.max(1, Math.floor(width / (this.edge + GAP)));
    this.wide = Math.floor(width / this.columns);
    this.high = this.failures ? FAILURE : this.edge + GAP + LINES;
    this.layer.style.height = `${this.grid.clientHeight}px`;
    this.scroller.top = (Math.floor(first / this.columns) + part) * this.high;
    this.scroller.resize(Math.ceil(this.count / this.columns) * this.high);
  }

  draw() {
    if (this.drawing || this.closed) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = null;
      this.drawNow();
    });
  }

  drawNow() {
    if (this.closed || !this.columns) return;
    const { top, height } = this.scroller;
    const first = Math.max(0, Math.floor(top / this.high) * this.columns);
    const last = Math.min(this.count, Math.ceil((top + height) / this.high) * this.columns);
    for (const [position, cell] of this.cells)
      if (position < first || position >= last) {
        cell.remove();
        this.cells.delete(position);
      }
    for (let position = first; position < last; position++) {
      let cell = this.cells.get(position);
      if (!cell) {
        cell = this.failures ? this.failureCell() : this.pictureCell();
        this.cells.set(position, cell);
        this.layer.append(cell);
      }
      this.paint(cell, position);
      const [row, column] = [Math.floor(position / this.columns), position % this.columns];
      cell.style.transform = `translate(${column * this.wide}px, ${row * this.high - top}px)`;
    }
    const active = this.cells.get(this.cursor);
    if (active) this.grid.setAttribute("aria-activedescendant", active.id);
    else this.grid.removeAttribute("aria-activedescendant");
    this.wanted = this.chunksIn(first, last);
    // While somebody drags the bar, nothing is asked for that would not be seen.
    const jumped = Math.abs(top - this.drawnAt) > height;
    this.drawnAt = top;
    clearTimeout(this.soon);
    if (jumped) this.soon = setTimeout(() => this.fetchWanted(), JUMPED);
    else this.fetchWanted();
  }

  /** The chunks in view, then the one after and the one before. */
  chunksIn(first, last) {
    const from = Math.floor(first / CHUNK);
    const to = Math.floor(Math.max(first, last - 1) / CHUNK);
    const seen = Array.from({ length: to - from + 1 }, (_, step) => from + step);
    const ends = Math.ceil(this.count / CHUNK);
    return [...seen, to + 1, from - 1].filter((chunk) => chunk >= 0 && chunk < ends);
  }

  pictureCell() {
    const cell = make("div", { class: "mmcache-cell", role: "option" },
      make("div", { class: "mmcache-thumb" }, make("canvas", { width: 0, height: 0 })),
      make("span", { class: "mmcache-tick", "aria-hidden": "true" }),
      make("div", { class: "mmcache-key" }),
      make("div", { class: "mmcache-label" }, make("i"), make("span")),
    );
    cell.style.width = `${this.wide}px`;
    cell.style.height = `${this.high}px`;
    cell.firstChild.style.height = `${this.edge}px`;
    return cell;
  }

  failureCell() {
    const cell = make("div", { class: "mmcache-failure", role: "option" },
      make("div", { class: "mmcache-key" }), make("div", { class: "mmcache-reason" }));
    cell.style.height = `${this.high}px`;
    return cell;
  }

  paint(cell, position) {
    cell.position = position;
    cell.id = `${this.name}-${position}`;
    cell.setAttribute("aria-posinset", position + 1);
    cell.setAttribute("aria-setsize", this.count);
    cell.classList.toggle("mmcache-cursor", position === this.cursor && this.grid.matches(":focus"));
    const chunk = this.chunks.get(Math.floor(position / CHUNK));
    const item = chunk?.items[position % CHUNK];
    if (!item) return;
    if (cell.item !== item) {
      cell.item = item;
      if (this.failures) this.paintFailure(cell, item);
      else this.paintPicture(cell, item, chunk.bitmap);
    }
    if (!this.failures) cell.setAttribute("aria-selected", String(item.selected));
  }

  paintPicture(cell, item, bitmap) {
    const [thumb, , key, label] = cell.children;
    const [left, top, wide, high] = item.box ?? [0, 0, 0, 0]; // none where it is damaged
    const canvas = thumb.firstChild;
    const scale = this.edge / this.asked;
    Object.assign(canvas, { width: wide, height: high });
    Object.assign(canvas.style, { width: `${wide * scale}px`, height: `${high * scale}px` });
    if (item.box)
      canvas.getContext("2d").drawImage(bitmap, left, top, wide, high, 0, 0, wide, high);
    key.textContent = item.key.slice(item.key.lastIndexOf("/") + 1);
    const name = item.error ? "damaged" : this.nameOf(item.label);
    label.hidden = !name;
    label.firstChild.style.background = item.error ? "#d33" : colourOf(item.label ?? -1);
    label.lastChild.textContent = name;
    cell.title = item.error ? `${item.key}\n${item.error}` : item.key;
    cell.setAttribute("aria-label", `row ${item.place}: ${item.key}${name && `, ${name}`}`);
  }

  nameOf(label) {
    if (label === null) return "";
    return label < 0 ? "(no label)" : (this.outline.classes[label] ?? `label ${label}`);
  }

  paintFailure(cell, [key, stage, reason]) {
    cell.children[0].textContent = key;
    cell.children[1].textContent = `${stage}: ${reason}`;
    cell.title = `${key}\n${reason}`;
  }

  // Fetching what is in view ----------------------------------------------------------------------------

  fetchWanted() {
    if (this.closed) return;
    for (const [chunk, abort] of this.underway)
      if (!this.wanted.includes(chunk)) {
        abort.abort(); // it scrolled away
        this.underway.delete(chunk);
      }
    for (const chunk of this.wanted) {
      if (this.underway.size >= AT_ONCE) return;
      if (!this.chunks.has(chunk) && !this.underway.has(chunk)) this.fetchChunk(chunk);
    }
  }

  async fetchChunk(chunk) {
    const abort = new AbortController();
    this.underway.set(chunk, abort);
    const [start, stop] = [chunk * CHUNK, Math.min((chunk + 1) * CHUNK, this.count)];
    this.asked = Math.max(16, Math.min(512, Math.round(this.edge * (window.devicePixelRatio || 1))));
    const ask = this.failures ? "failures" : "cells";
    const message = { ask, filter: { ...this.filter }, start, stop, edge: this.asked };
    try {
      const { json, bytes } = await this.ask(message, abort.signal);
      if (abort.signal.aborted) return;
      const image = new Blob([bytes], { type: "image/jpeg" });
      const bitmap = this.failures ? null : await createImageBitmap(image);
      if (abort.signal.aborted || this.closed) {
        bitmap?.close();
        return;
      }
      this.chunks.set(chunk, { items: json.cells ?? json.failures, bitmap });
      this.release();
      this.draw();
    } catch {
      if (!abort.signal.aborted) await new Promise((later) => setTimeout(later, 1000));
    } finally {
      if (this.underway.get(chunk) === abort) this.underway.delete(chunk);
      if (!this.closed && this.wanted && !abort.signal.aborted) this.fetchWanted();
    }
  }

  /** Let go of the chunks that are farthest from what is in view. */
  release() {
    const middle = this.wanted[0] ?? 0;
    const near = [...this.chunks.keys()].sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle));
    for (const chunk of near.slice(Math.max(KEPT, this.wanted.length))) {
      this.chunks.get(chunk).bitmap?.close();
      this.chunks.delete(chunk);
    }
  }

  forget() {
    for (const abort of this.underway.values()) abort.abort();
    this.underway.clear();
    for (const { bitmap } of this.chunks.values()) bitmap?.close();
    this.chunks.clear();
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
  }

  // Moving about --------------------------------------------------------------------------------------

  moveTo(position) {
    this.cursor = Math.max(0, Math.min(position, this.count - 1));
    const top = Math.floor(this.cursor / this.columns) * this.high;
    const { height } = this.scroller;
    if (top < this.scroller.top) this.scroller.to(top);
    else if (top + this.high > this.scroller.top + height) this.scroller.to(top + this.high - height);
    else this.draw();
  }

  async goTo(said) {
    const place = Number(String(said).replaceAll(/[,_\s]/g, ""));
    if (String(said).trim() === "" || !Number.isInteger(place) || place < 0) {
      this.say(`${said || "nothing"} is no row: say a number from 0 to ${number(this.outline.total - 1)}`);
      return;
    }
    try {
      const { json } = await this.ask({ ask: "find", filter: this.filter, place });
      this.anchor = json.position;
      this.moveTo(json.position);
      this.grid.focus();
      if (!json.exact) this.say(`row ${number(place)} is not among those shown: this is the next one`);
    } catch {
      // It was said.
    }
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.scroller.height / this.high)) * this.columns;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity,
    };
    const many = event.ctrlKey || event.metaKey;
    if (event.key in steps) {
      // Up and down stay in their column, and go nowhere from the first or last line.
      const next = this.cursor + steps[event.key];
      const inside = next >= 0 && next < this.count;
      const arrow = event.key.startsWith("Arrow");
      if (inside || !arrow) this.moveTo(next);
      if (event.shiftKey && !this.failures) this.selectTo(this.cursor);
      else this.anchor = this.cursor;
    } else if (event.key === "Enter" && !this.failures) this.openDetail(this.cursor);
    else if (event.key === " " && !this.failures) this.toggle(this.cursor);
    else if (many && event.key.toLowerCase() === "a" && !this.failures) this.selectAll();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  clicked(event) {
    const cell = event.target.closest(".mmcache-cell");
    if (!cell?.item) return;
    this.grid.focus({ preventScroll: true });
    const { position } = cell;
    this.cursor = position;
    if (event.shiftKey) this.selectTo(position);
    else if (event.ctrlKey || event.metaKey || event.target.classList.contains("mmcache-tick"))
      this.toggle(position);
    else this.openDetail(position);
  }

  // Selecting ------------------------------------------------------------------------------------------

  itemAt(position) {
    return this.chunks.get(Math.floor(position / CHUNK))?.items[position % CHUNK];
  }

  toggle(position) {
    const item = this.itemAt(position);
    if (!item) return;
    this.anchor = position;
    this.select([[position, position + 1]], item.selected ? "drop" : "add");
  }

  selectTo(position) {
    const [first, last] = [this.anchor, position].sort((a, b) => a - b);
    this.select([[first, last + 1]], "add");
  }

  selectAll() {
    if (this.count && !this.failures) this.select([[0, this.count]], "add");
  }

  async select(ranges, how) {
    for (const [chunk, { items }] of this.chunks)
      if (!this.failures)
        items.forEach((item, place) => {
          const position = chunk * CHUNK + place;
          const meant = ranges.some(([start, stop]) => start <= position && position < stop);
          if (how === "only") item.selected = meant;
          else if (meant) item.selected = how === "add";
        });
    this.draw();
    try {
      await this.ask({ ask: "select", filter: { ...this.filter }, ranges, how });
    } catch {
      this.remark();
    }
  }

  /** Look anew which of the pictures at hand are selected. */
  async remark() {
    if (this.failures) return;
    for (const [chunk, { items }] of this.chunks) {
      const start = chunk * CHUNK;
      const message = { ask: "marked", filter: { ...this.filter }, start, stop: start + items.length };
      try {
        const { json } = await this.ask(message);
        items.forEach((item, place) => (item.selected = json.marked[place]));
      } catch {
        return;
      }
    }
    this.draw();
  }

  async copy(as) {
    try {
      const { bytes } = await this.ask({ ask: "copy", as });
      const text = new TextDecoder().decode(bytes);
      const what = `${number(this.selection[1])} ${as}`;
      try {
        await navigator.clipboard.writeText(text);
        this.say(`copied: ${what}`);
      } catch {
        this.showText(what, text);
      }
    } catch {
      // It was said.
    }
  }

  /** Where the clipboard is not to be written to: the text itself, ready to be copied. */
  showText(what, text) {
    const area = make("textarea", { readonly: "", rows: "4", "aria-label": what });
    area.value = text;
    const done = make("button", { type: "button", text: "Done", onclick: () => this.say("") });
    this.status.replaceChildren(make("span", { text: `${what}, to be copied:` }), area, done);
    area.select();
  }

  // One picture ------------------------------------------------------------------------------------------

  buildDetail() {
    const button = (text, label, does) =>
      make("button", { type: "button", text, "aria-label": label, title: label, onclick: does });
    this.image = make("img", { alt: "" });
    this.facts = make("dl");
    this.heading = make("h2");
    this.detailTick = button("", "select this picture", () => this.toggleOpened());
    this.detail = make("div", {
      class: "mmcache-detail", role: "dialog", "aria-modal": "true", "aria-label": "one picture",
      tabindex: "-1", hidden: true, onkeydown: (event) => this.detailKey(event),
    },
      make("div", { class: "mmcache-picture" }, this.image),
      make("div", { class: "mmcache-facts" },
        make("div", { class: "mmcache-turn" },
          button("←", "previous picture", () => this.step(-1)),
          button("→", "next picture", () => this.step(1)),
          this.detailTick,
          button("✕", "close", () => this.closeDetail())),
        this.heading, this.facts),
    );
  }

  async openDetail(position) {
    if (this.detail.hidden) {
      this.detail.hidden = false;
      this.detail.focus({ preventScroll: true });
    }
    this.opened = position;
    this.moveTo(position);
    try {
      const { json, bytes } = await this.ask({ ask: "details", filter: this.filter, position });
      if (this.opened !== position) return;
      this.showDetail(json, bytes);
    } catch {
      if (this.opened === position) this.closeDetail();
    }
  }

  showDetail(json, bytes) {
    URL.revokeObjectURL(this.image.src);
    this.image.src = URL.createObjectURL(new Blob([bytes], { type: json.type }));
    this.image.alt = json.key;
    this.heading.textContent = json.key;
    this.facts.replaceChildren(
      ...json.facts.flatMap(([what, value]) => [
        make("dt", { text: what }), make("dd", { text: value })]),
    );
    this.openedSelected = json.selected;
    this.showDetailTick();
  }

  showDetailTick() {
    this.detailTick.textContent = this.openedSelected ? "✓ selected" : "select";
    this.detailTick.setAttribute("aria-pressed", String(this.openedSelected));
  }

  toggleOpened() {
    const how = this.openedSelected ? "drop" : "add";
    this.openedSelected = !this.openedSelected;
    this.showDetailTick();
    this.select([[this.opened, this.opened + 1]], how);
  }

  step(by) {
    const next = this.opened + by;
    if (next >= 0 && next < this.count) this.openDetail(next);
  }

  detailKey(event) {
    if (event.key === "Escape") this.closeDetail();
    else if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === " " && event.target.tagName !== "BUTTON") this.toggleOpened();
    else if (event.key === "Tab") return this.keepFocus(event);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** A dialog keeps the focus: after its last button comes its first. */
  keepFocus(event) {
    const buttons = [...this.detail.querySelectorAll("button")];
    const [first, last] = [buttons[0], buttons.at(-1)];
    const at = this.root.getRootNode().activeElement;
    if (event.shiftKey ? at === first || at === this.detail : at === last) {
      (event.shiftKey ? last : first).focus();
      event.preventDefault();
    }
  }

  closeDetail() {
    if (this.opened === null) return;
    this.opened = null;
    this.detail.hidden = true;
    URL.revokeObjectURL(this.image.src);
    this.image.removeAttribute("src");
    if (!this.closed) this.grid.focus({ preventScroll: true });
  }
}

/** Show a browser in *root*; what is returned has `close()`, and `heard(json)` for what others ask. */
export function mount(root, asker, options) {
  return new Browser(root, asker, options);
}

// In a notebook ----------------------------------------------------------------------------------------

/** Ask through the widget's model: a message there, a message back with the same number. */
class ModelAsker {
  constructor(model) {
    this.model = model;
    this.waiting = new Map();
    this.name = Array.from(crypto.getRandomValues(new Uint32Array(2))).join("-");
    this.next = 0;
    this.hear = (said, buffers) => this.heard(said, buffers ?? []);
    model.on("msg:custom", this.hear);
  }
  ask(message, signal) {
    if (this.model.comm_live === false)
      return Promise.reject(new Error("its kernel has ended: run the cell again"));
    const id = `${this.name}-${this.next++}`;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, resolve);
      signal?.addEventListener("abort", () => {
        this.waiting.delete(id);
        reject(new Error("it scrolled away"));
      });
      this.model.send({ id, message });
    });
  }
  heard(said, [buffer]) {
    const resolve = this.waiting.get(said?.id);
    if (!resolve) {
      if (said?.json) this.others?.(said.json); // of another view of the same widget
      return;
    }
    this.waiting.delete(said.id);
    const bytes = buffer
      ? new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength)
      : new Uint8Array();
    resolve({ json: said.json, bytes });
  }
  close() {
    this.model.off("msg:custom", this.hear);
  }
}

function render({ model, el }) {
  const asker = new ModelAsker(model);
  const root = document.createElement("div");
  el.append(root);
  const browser = mount(root, asker, { edge: model.get("edge"), height: model.get("height") });
  asker.others = (json) => browser.heard(json);
  return () => {
    browser.close();
    asker.close();
  };
}

export default { render };
