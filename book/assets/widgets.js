// The widget manager loads its own pieces from the folder it lies in, and speaks to MathJax 2 only.
window.__jupyter_widgets_assets_path__ = new URL("vendor/widgets/", document.currentScript.src).href;
document.addEventListener("DOMContentLoaded", () => {
  if (window.MathJax) {
    window.MathJax.Hub = { Queue: ([, , element]) => window.MathJax.typesetPromise?.([element]) };
  }

  // Controls without words get a name: a slider's handle that of its label, a player's button that of its icon.
  const icons = { "fa-play": "Play", "fa-pause": "Pause", "fa-stop": "Stop", "fa-retweet": "Repeat" };
  new MutationObserver(() => {
    for (const handle of document.querySelectorAll(".noUi-handle:not([aria-label])")) {
      const words = handle.closest(".jupyter-widgets")?.querySelector(".widget-label")?.textContent;
      handle.setAttribute("aria-label", words || "value");
    }
    for (const icon of document.querySelectorAll(".widget-play button > i")) {
      const known = Object.keys(icons).find((name) => icon.classList.contains(name));
      if (known && icon.parentElement.ariaLabel !== icons[known]) icon.parentElement.ariaLabel = icons[known];
    }
  }).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
});
