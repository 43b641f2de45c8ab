// Polling, page state and small comforts. Every action works without this file.
(() => {
  const FAST = 3000;
  const SLOW = 15000;

  // An element with hx-trigger="poll" asks again every 3 s, in a hidden tab every 15 s. A fragment ends its
  // polling by coming back without the trigger.
  let last = Date.now();
  const tick = () => {
    const due = document.hidden ? SLOW : FAST;
    if (Date.now() - last < due) return;
    last = Date.now();
    for (const element of document.querySelectorAll('[hx-trigger~="poll"]')) htmx.trigger(element, "poll");
  };
  setInterval(tick, 500);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { last = 0; tick(); } });

  // Title and favicon follow the order's status: the fragment carries them as data.
  const reflect = () => {
    const state = document.querySelector("[data-page-title]");
    if (!state) return;
    document.title = state.dataset.pageTitle;
    const icon = document.getElementById("favicon");
    if (state.dataset.pageIcon && icon.getAttribute("href") !== state.dataset.pageIcon) icon.href = state.dataset.pageIcon;
  };
  document.addEventListener("htmx:afterSettle", reflect);

  // What a person opened stays open, and what they type stays typed, when a fragment is morphed.
  document.addEventListener("DOMContentLoaded", () => {
    if (!window.Idiomorph) return;
    const before = Idiomorph.defaults.callbacks.beforeAttributeUpdated;
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node, type) => {
      if (node.tagName === "DETAILS" && name === "open") return false;
      return before ? before(name, node, type) : true;
    };
  });

  // Questions before things that cannot be undone. Without JavaScript the server asks on a page of its own.
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });

  // Toasts of HTMX actions: the server sends them as an HX-Trigger event.
  document.addEventListener("toast", (event) => {
    const toast = document.createElement("div");
    toast.className = `alert alert-${event.detail.level} wo-toast`;
    toast.textContent = event.detail.message;
    document.getElementById("toasts").append(toast);
  });

  // Live elapsed times between two polls.
  setInterval(() => {
    for (const element of document.querySelectorAll("[data-elapsed-since]")) {
      const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(element.dataset.elapsedSince)) / 1000));
      const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
      const text = h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`;
      if (element.textContent !== text) element.textContent = text;
    }
  }, 1000);

  // Ages in their largest unit.
  setInterval(() => {
    for (const element of document.querySelectorAll("time[data-age]")) {
      const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(element.dateTime)) / 1000));
      const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([size]) => seconds >= size) || [1, "s"];
      const text = `${Math.floor(seconds / size)} ${unit}`;
      if (element.textContent !== text) element.textContent = text;
    }
  }, 1000);

  // A picked choice fills the field that the server reads first; typing there lets go of the choice.
  document.addEventListener("change", (event) => {
    const field = event.target.dataset.fills && document.getElementById(event.target.dataset.fills);
    if (field) field.value = event.target.value;
  });
  document.addEventListener("input", (event) => {
    for (const choice of document.querySelectorAll("[data-fills]")) {
      if (choice.dataset.fills === event.target.id) choice.checked = choice.value === event.target.value.replace("#", "");
    }
  });
})();
