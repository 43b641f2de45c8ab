// Polling, page state and small comforts. Every action works without this file.
(() => {
  const FAST = 3000;
  const SLOW = 15000;
  const TOAST_STAYS = 8000;
  const closest = (event, selector) => event.target instanceof Element && event.target.closest(selector);

  // An element with hx-trigger="poll" asks again every 3 s, in a hidden tab every 15 s. A fragment ends its
  // polling by coming back without the trigger.
  let last = Date.now();
  const tick = () => {
    const due = document.hidden ? SLOW : FAST;
    if (Date.now() - last < due) return;
    last = Date.now();
    for (const element of document.querySelectorAll('[hx-trigger~="poll"]')) htmx.trigger(element, "poll");
  };
  const pollNow = () => { last = 0; tick(); };
  setInterval(tick, 500);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) pollNow(); });
  document.addEventListener("poll-now", pollNow);

  // Title and favicon follow the status: the fragment carries them as data.
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

  // Toasts: of the page's own messages, of the server's HX-Trigger events, and of what went wrong on the way.
  // Good news leaves by itself, unless somebody is at it; bad news stays until it is closed.
  const tend = (toast) => {
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn-close";
    close.setAttribute("aria-label", "Close this message");
    toast.append(close);
    const leave = () => {
      if (toast.matches(":hover, :focus-within")) setTimeout(leave, TOAST_STAYS);
      else toast.remove();
    };
    if (!toast.classList.contains("alert-danger")) setTimeout(leave, TOAST_STAYS);
  };
  const say = (message, level) => {
    const toast = document.createElement("div");
    toast.className = `alert alert-${level} wo-toast`;
    toast.textContent = message;
    document.getElementById("toasts").append(toast);
    tend(toast);
  };
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".wo-toast").forEach(tend));
  document.addEventListener("click", (event) => { if (closest(event, ".wo-toast .btn-close")) event.target.closest(".wo-toast").remove(); });
  document.addEventListener("toast", (event) => say(event.detail.message, event.detail.level));

  // A poll that fails says so until one gets through; anything else that fails was asked for, and gets a toast.
  const isPoll = (event) => event.detail.requestConfig?.triggeringEvent?.type === "poll";
  // What answered is known by the element that asked: the answer may have replaced it, or another in its place.
  const failing = new Set();
  let answered = Date.now();
  const asks = (id) => document.getElementById(id)?.matches('[hx-trigger~="poll"]');
  const tellPolls = () => {
    for (const id of failing) if (!asks(id)) failing.delete(id);
    const banner = document.getElementById("offline");
    if (banner.hidden === (failing.size === 0)) return;
    const since = document.getElementById("offline-since");
    since.dateTime = new Date(answered).toISOString();
    since.textContent = new Date(answered).toLocaleTimeString("en-GB");
    banner.hidden = failing.size === 0;
  };
  const failed = (event, words) => {
    if (!isPoll(event)) return say(words, "danger");
    failing.add(event.detail.requestConfig.elt.id);
    return tellPolls();
  };
  const SILENT = "The server does not answer. Nothing is lost here; try again in a moment.";
  document.addEventListener("htmx:sendError", (event) => failed(event, SILENT));
  document.addEventListener("htmx:timeout", (event) => failed(event, SILENT));
  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    const advice = status === 503 ? "Its database is away; try again in a moment." : status === 403 ? "Reload the page and try again." : status < 500 ? "Reload the page to see how things stand." : "Its log says why; try again in a moment.";
    failed(event, `The server answered ${status}. ${advice}`);
  });
  document.addEventListener("htmx:afterSettle", () => { if (failing.size) tellPolls(); });
  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (event.detail.xhr.status >= 400) return;
    answered = Date.now();
    if (failing.delete(event.detail.requestConfig.elt.id)) tellPolls();
  });

  // Times: elapsed and ages go on between two polls, and clocks show the reader's own time zone.
  const inUnits = (seconds) => {
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
    return h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`;
  };
  const inLargestUnit = (seconds) => {
    const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([size]) => seconds >= size) || [1, "s"];
    return `${Math.floor(seconds / size)} ${unit}`;
  };
  const since = (time) => Math.max(0, Math.floor((Date.now() - Date.parse(time)) / 1000));
  const show = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  setInterval(() => {
    // Nobody knows whether what was running still is, while nothing answers.
    if (failing.size === 0) for (const element of document.querySelectorAll("[data-elapsed-since]")) show(element, inUnits(since(element.dataset.elapsedSince)));
    for (const element of document.querySelectorAll("time[data-age]")) show(element, inLargestUnit(since(element.dateTime)));
    for (const element of document.querySelectorAll("time[data-ago]")) {
      const seconds = since(element.dateTime);
      show(element, seconds < 2 ? "just now" : `${inLargestUnit(seconds)} ago`);
    }
  }, 1000);
  const toLocalTime = () => {
    for (const element of document.querySelectorAll("time[data-clock]")) {
      element.textContent = new Date(element.dateTime).toLocaleTimeString("en-GB");
      element.removeAttribute("data-clock");
    }
  };
  document.addEventListener("DOMContentLoaded", toLocalTime);
  document.addEventListener("htmx:afterSettle", toLocalTime);

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
