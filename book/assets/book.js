// FontAwesome would replace the <i> of a Play widget, which then fails: it may only fill it.
window.FontAwesomeConfig = { autoReplaceSvg: "nest" };

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
});
