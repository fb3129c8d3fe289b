// The widget manager loads its own pieces from the folder it lies in.
window.__jupyter_widgets_assets_path__ = new URL("vendor/widgets/", document.currentScript.src).href;
