(() => {
  "use strict";
  const PAUSE = 2000;
  const state = document.getElementById("state");
  const facts = JSON.parse(document.getElementById("live").textContent);
  let version = `"${facts.version}"`;

  function say(text) {
    if (state.textContent !== text) state.textContent = text;
  }

  // What the reader has done to the page survives its renewal.
  function remember() {
    const marks = (selector) => [...document.querySelectorAll(selector)];
    return {
      open: new Set(marks(".figure details[open]").map((d) => d.closest("figure").querySelector(".chart").id)),
      off: marks('.key[aria-pressed="false"]').map((k) => [k.closest("figure").querySelector(".chart").id, k.dataset.series]),
      checked: new Set(marks('input[name="run"]:checked').map((box) => box.value)),
      zoom: [...((window.holdfast || {}).views || new Map())].map(([id, view]) => {
        try { return [id, view.signal("zoom_x")]; } catch (_) { return [id, null]; }
      }),
    };
  }

  function recall(kept) {
    for (const figure of document.querySelectorAll("figure.figure")) {
      const id = figure.querySelector(".chart").id;
      const twin = figure.querySelector("details");
      if (twin && kept.open.has(id)) twin.open = true;
      for (const key of figure.querySelectorAll("button.key")) {
        if (kept.off.some(([f, s]) => f === id && s === key.dataset.series)) key.setAttribute("aria-pressed", "false");
      }
    }
    for (const box of document.querySelectorAll('input[name="run"]')) box.checked = kept.checked.has(box.value);
  }

  async function renew(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    const kept = remember();
    const at = window.scrollY;
    const height = document.body.style.minHeight;
    document.body.style.minHeight = `${document.body.scrollHeight}px`;
    for (const id of ["content", "gathered", "figures", "data"]) {
      const here = document.getElementById(id);
      const there = fresh.getElementById(id);
      if (here && there) {
        if (here.tagName === "SCRIPT") here.textContent = there.textContent;
        else here.replaceChildren(...there.childNodes);
      }
    }
    recall(kept);
    window.scrollTo(0, at);
    if (window.holdfast) {
      await window.holdfast.mountAll();
      for (const [id, domain] of kept.zoom) {
        const view = window.holdfast.views.get(id);
        if (view && domain) view.signal("zoom_x", domain).runAsync();
      }
    }
    document.body.style.minHeight = height;
    document.documentElement.dataset.renewed = String(Number(document.documentElement.dataset.renewed || 0) + 1);
  }

  async function look() {
    try {
      const answer = await fetch(window.location.href, {
        headers: { "If-None-Match": version }, cache: "no-store",
      });
      if (answer.status === 200) {
        const seen = answer.headers.get("ETag");
        const html = await answer.text();
        if (seen !== version) await renew(html);
        version = seen;
      }
      say(answer.ok || answer.status === 304 ? "live" : "not available");
    } catch (_) {
      say("the server is gone");
    }
    setTimeout(look, PAUSE);
  }

  async function pin(button) {
    const on = button.dataset.on === "yes";
    const reason = on ? window.prompt(`Why must ${button.dataset.pin} stay?`, "pinned by hand") : null;
    if (on && (reason === null || !reason.trim())) return;
    button.disabled = true;
    try {
      const answer = await fetch("/pin", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Holdfast-Token": facts.token },
        body: JSON.stringify({ run: button.dataset.run, checkpoint: button.dataset.pin, reason }),
      });
      say(answer.ok ? (on ? "pinned" : "unpinned") : await answer.text());
      if (answer.ok) {
        button.dataset.on = on ? "no" : "yes";
        button.firstChild.textContent = on ? "Unpin" : "Pin";
      }
    } catch (_) {
      say("the server is gone");
    }
    button.disabled = false;
  }

  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[data-pin]") : null;
    if (button) pin(button);
  });
  look();
})();
