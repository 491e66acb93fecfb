// Sets the theme before anything is drawn, so that a dark page does not flash white. A classic script for that reason.
"use strict";
{
  let theme = null;
  try {
    theme = localStorage.getItem("stratalog.theme");
  } catch {
    // No storage: the system decides.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
