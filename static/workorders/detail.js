// The activity feed: it follows the newest entry, stays put while somebody reads, and stays small.
(() => {
  const KEPT = 600;
  const box = document.getElementById("feed");
  const list = document.getElementById("feed-entries");
  const button = document.getElementById("feed-newer");
  if (!box) return;
  // The box is a reversed column: its scroll position is 0 at the newest entry and negative above.
  const follows = () => box.scrollTop > -40;
  let before = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target !== list) return;
    before = follows() ? null : { height: box.scrollHeight, top: box.scrollTop };
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== list) return;
    if (before === null) {
      while (list.children.length > KEPT) list.firstElementChild.remove();
      box.scrollTop = 0;
    } else if (box.scrollHeight !== before.height) {
      box.scrollTop = before.top - (box.scrollHeight - before.height);
      button.hidden = false;
    }
  });
  box.addEventListener("scroll", () => { if (follows()) button.hidden = true; }, { passive: true });
  button.addEventListener("click", () => { box.scrollTop = 0; button.hidden = true; box.focus(); });
})();
