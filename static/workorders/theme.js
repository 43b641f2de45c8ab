// Sets the theme before the first paint, and says that scripts run. Without JavaScript the button in the header does it by a cookie.
(() => {
  const root = document.documentElement;
  root.dataset.scripts = "on";
  if (root.dataset.themeChoice !== "auto") return;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => root.setAttribute("data-bs-theme", dark.matches ? "dark" : "light");
  dark.addEventListener("change", apply);
  apply();
})();
