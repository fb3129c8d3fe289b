// A figure opens alone, as large as the screen allows: on a phone its labels are small otherwise.
document.addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll("img.run-figure, img.hero")) {
    if (figure.closest("a")) continue;
    const link = document.createElement("a");
    link.href = figure.src;
    link.title = "Open this figure alone";
    link.className = "figure-link";
    figure.replaceWith(link);
    link.append(figure);
  }

  // The theme's buttons have names that differ from the words on them.
  document.querySelectorAll(".search-button__button").forEach((button) => button.removeAttribute("aria-label"));
  document.querySelectorAll(".theme-switch-button").forEach((button) => {
    button.setAttribute("aria-label", "Color mode: Light, Dark or System Settings");
  });
});
