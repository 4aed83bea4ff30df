(() => {
  "use strict";
  const page = document.documentElement;
  page.classList.add("js");
  const views = new Map();
  const tip = document.getElementById("tip");
  let specs = {};

  // Charts. The specifications hold no address to load from, and loading is refused besides.
  const loader = {
    load: () => Promise.reject(new Error("charts load nothing")),
    sanitize: () => Promise.reject(new Error("charts link nowhere")),
    http: () => Promise.reject(new Error("charts load nothing")),
    file: () => Promise.reject(new Error("charts load nothing")),
  };

  async function mount(place) {
    const name = place.dataset.figure;
    const made = await vegaEmbed(place, specs[name], {
      mode: "vega-lite", ast: true, actions: false, renderer: "svg",
      defaultStyle: false, tooltip: showTip, loader,
    });
    views.set(name, made.view);
    place.closest("figure").classList.add("live");
    hideSwitchedOff(place.closest("figure"));
  }

  async function mountAll() {
    for (const view of views.values()) view.finalize();
    views.clear();
    specs = JSON.parse(document.getElementById("figures").textContent);
    for (const place of document.querySelectorAll(".chart")) {
      try {
        await mount(place);
      } catch (error) {
        place.replaceChildren();
        console.warn(`chart ${place.id} stays a still picture: ${error}`);
      }
      await new Promise((next) => setTimeout(next, 0));
    }
    page.dataset.ready = "yes";
  }

  // Hover
  function showTip(_handler, event, _item, value) {
    if (value === null || value === undefined || value === "") {
      tip.hidden = true;
      return;
    }
    const list = document.createElement("dl");
    for (const [title, text] of Object.entries(value)) {
      if (text === "" || text === null || text === undefined) continue;
      const term = document.createElement("dt");
      const definition = document.createElement("dd");
      term.textContent = title;
      definition.textContent = String(text);
      list.append(term, definition);
    }
    tip.replaceChildren(list);
    tip.hidden = false;
    const at = event.touches && event.touches[0] ? event.touches[0] : event;
    const room = { x: window.innerWidth - tip.offsetWidth - 8, y: window.innerHeight - tip.offsetHeight - 8 };
    tip.style.left = `${Math.max(8, Math.min(at.clientX + 14, room.x))}px`;
    const below = at.clientY + 16;
    tip.style.top = `${Math.max(8, below > room.y ? at.clientY - tip.offsetHeight - 12 : below)}px`;
  }
  window.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // Switches of the legend
  function hideSwitchedOff(figure) {
    const view = views.get(figure.querySelector(".chart").dataset.figure);
    const off = [...figure.querySelectorAll('.key[aria-pressed="false"]')].map((key) => key.dataset.series);
    if (view) view.signal("hidden", off).runAsync();
  }

  // Zoom by buttons: what dragging and ctrl + wheel do, for fingers and keyboards
  function zoom(figure, how) {
    const view = views.get(figure.querySelector(".chart").dataset.figure);
    if (!view) return;
    if (how === "all") {
      view.signal("zoom_x", null).runAsync();
      return;
    }
    const [low, high] = view.scale("x").domain().map(Number);
    const span = high - low;
    const change = {
      in: [low + span / 4, high - span / 4],
      out: [low - span / 2, high + span / 2],
      left: [low - span / 4, high - span / 4],
      right: [low + span / 4, high + span / 4],
    }[how];
    view.signal("zoom_x", change).runAsync();
  }

  // Tables
  function sort(button) {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const column = head.cellIndex;
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const sign = falling ? -1 : 1;
    const rows = [...body.rows].map((row) => {
      const cell = row.cells[column];
      const number = cell.dataset.sort === undefined ? NaN : Number(cell.dataset.sort);
      return { row, number, text: cell.textContent };
    });
    rows.sort((a, b) => {
      if (Number.isNaN(a.number) !== Number.isNaN(b.number)) return Number.isNaN(a.number) ? 1 : -1;
      if (!Number.isNaN(a.number)) return sign * (a.number - b.number);
      return sign * a.text.localeCompare(b.text, "en", { numeric: true });
    });
    body.append(...rows.map((entry) => entry.row));
  }

  function download() {
    const text = document.getElementById("data").textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "holdfast-report.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function nextTheme() {
    const order = { "": "dark", dark: "light", light: "" };
    const next = order[page.dataset.theme || ""];
    if (next) page.dataset.theme = next; else delete page.dataset.theme;
  }

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest("button") : null;
    if (!target) return;
    if (target.matches(".sort")) sort(target);
    else if (target.matches("button.key")) {
      target.setAttribute("aria-pressed", target.getAttribute("aria-pressed") === "true" ? "false" : "true");
      hideSwitchedOff(target.closest("figure"));
    } else if (target.dataset.zoom) zoom(target.closest("figure"), target.dataset.zoom);
    else if (target.id === "download") download();
    else if (target.id === "theme") nextTheme();
  });

  window.holdfast = { mountAll, views };
  mountAll();
})();
