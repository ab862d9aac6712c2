// Light or dark colours: the system's, or the one chosen here.

import { byId } from "./dom.js";

export function setUpTheme() {
  const dark = () => document.documentElement.dataset.theme === "dark";
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
    byId("theme").setAttribute("aria-label", theme === "dark" ? "Light colours" : "Dark colours");
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  set(localStorage.getItem("echoplane-theme") ?? (system.matches ? "dark" : "light"));
  byId("theme").addEventListener("click", () => {
    set(dark() ? "light" : "dark");
    localStorage.setItem("echoplane-theme", document.documentElement.dataset.theme);
  });
}
