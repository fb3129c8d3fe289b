"""A feature browser for a static page: native controls and a small script over two sprite sheets, no kernel."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from lazyutils.data import COLOR_NAMES, PALETTES
from lazyutils.errors import ClearError

TILE = 28
JPEG_QUALITY = 60


@dataclass(frozen=True)
class Catalogue:
    """What the browser shows of K features.

    Attributes:
        preferred: ``float32 [K, 3, 28, 28]`` in [0, 1], the input that raises each feature most.
        examples: ``float32 [K, M, 3, 28, 28]``, the images on which each is strongest.
        by_color, by_digit: ``float32 [K, 10]``, mean activation for each colour and digit.
        pushes: ``float32 [K, 10]``, mean change of the ten logits when the feature rises by one s.d.
        facts: name to one text a feature, shown as a list.
        orders: name to ``float [K]``; the reader can sort by any of them, largest first.
        palette: a name in ``PALETTES``. names: of its ten colours.
    """

    preferred: Tensor
    examples: Tensor
    by_color: Tensor
    by_digit: Tensor
    pushes: Tensor
    facts: Mapping[str, Sequence[str]]
    orders: Mapping[str, Tensor]
    palette: str = "study"
    names: Sequence[str] = COLOR_NAMES


def sprite_sheet(images: Tensor, columns: int) -> str:
    """``images [N, 3, 28, 28]`` in rows of ``columns`` as one JPEG data URI."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * TILE, rows * TILE))
    pixels = (images.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for position, tile in enumerate(pixels):
        row, column = divmod(position, columns)
        sheet.paste(Image.fromarray(tile), (column * TILE, row * TILE))
    buffer = io.BytesIO()
    sheet.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def render(catalogue: Catalogue, name: str = "features") -> str:
    """The browser as one HTML fragment; every ``name`` can be on a page once.

    It needs a browser with JavaScript, no kernel and no network; the two controls are native, so the keyboard
    reaches them (arrow keys step through the features).

    Raises:
        ClearError: parts of the catalogue disagree in the number of features.
    """
    check(catalogue)
    count, shown = catalogue.examples.shape[:2]
    record = {
        "names": list(catalogue.names),
        "palette": ["rgb({},{},{})".format(*color) for color in PALETTES[catalogue.palette]],
        "shown": shown,
        "columns": 16,
        "rows": -(-count // 16),
        "count": count,
        "color": rounded(catalogue.by_color),
        "digit": rounded(catalogue.by_digit),
        "push": rounded(catalogue.pushes),
        "facts": {key: list(values) for key, values in catalogue.facts.items()},
        "orders": {key: values.argsort(descending=True).tolist() for key, values in catalogue.orders.items()},
        "preferred": sprite_sheet(catalogue.preferred, 16),
        "examples": sprite_sheet(catalogue.examples.flatten(0, 1), shown),
    }
    fill = {
        "@ID@": html.escape(name, quote=True),
        "@LAST@": str(count - 1),
        "@OPTIONS@": "".join(f"<option>{html.escape(key)}</option>" for key in record["orders"]),
        "@DATA@": json.dumps(record, separators=(",", ":")).replace("<", "\\u003c"),
    }
    page = STYLE + BODY + SCRIPT
    for mark, text in fill.items():
        page = page.replace(mark, text)
    return page


def check(catalogue: Catalogue) -> None:
    """Refuse a catalogue whose parts disagree."""
    count = len(catalogue.preferred)
    parts = {
        "examples": catalogue.examples,
        "by_color": catalogue.by_color,
        "by_digit": catalogue.by_digit,
        "pushes": catalogue.pushes,
        **catalogue.facts,
        **catalogue.orders,
    }
    for name, part in parts.items():
        if len(part) != count:
            raise ClearError(f"{name} has {len(part)} entries for {count} features: give one each")
    if not catalogue.orders:
        raise ClearError("no order to browse by: give at least one")


def rounded(values: Tensor) -> list[list[float]]:
    """Nested lists with three significant digits, to keep the page small."""
    return [[float(f"{value:.3g}") for value in row] for row in values.tolist()]


STYLE = """<style>
.fb{border:1px solid #8886;border-radius:8px;padding:1rem;max-width:46rem}
.fb-controls{display:flex;flex-wrap:wrap;gap:.75rem 1.5rem;align-items:center;margin-bottom:.75rem}
.fb-controls label{display:flex;gap:.5rem;align-items:center}
.fb-controls input{width:14rem}
.fb-grid{display:flex;flex-wrap:wrap;gap:1rem 1.5rem}
.fb figure{margin:0}
.fb figcaption{font-size:.8rem;margin-bottom:.25rem}
.fb-row{display:flex;flex-wrap:wrap;gap:4px}
.fb-tile{width:56px;height:56px;image-rendering:pixelated;background-repeat:no-repeat}
.fb-large{width:118px;height:118px}
.fb svg{display:block}
.fb dl{display:grid;grid-template-columns:max-content auto;gap:.1rem .75rem;margin:.75rem 0 0;font-size:.85rem}
.fb dd,.fb dt{margin:0;padding:0;font-weight:normal}
.fb dt{opacity:.8}
</style>
"""

BODY = """<section class="fb" id="@ID@" aria-label="Feature browser">
<div class="fb-controls">
<label>Sorted by <select aria-label="Sort features by">@OPTIONS@</select></label>
<label>Feature
<input type="range" min="0" max="@LAST@" value="0" step="1" aria-label="Position in the sorted list"></label>
<output aria-live="polite"></output>
</div>
<div class="fb-grid">
<figure><figcaption>preferred input</figcaption>
<div class="fb-tile fb-large" data-part="preferred" role="img"></div></figure>
<figure><figcaption>strongest images</figcaption><div class="fb-row" data-part="examples"></div></figure>
<figure><figcaption>mean activation by colour</figcaption><div data-part="color"></div></figure>
<figure><figcaption>mean activation by digit</figcaption><div data-part="digit"></div></figure>
<figure><figcaption>push on the ten logits (+1 s.d.)</figcaption><div data-part="push"></div></figure>
</div>
<dl></dl>
<noscript>The feature browser needs JavaScript; the figures on this page show the same features.</noscript>
</section>
"""

SCRIPT = """<script type="application/json" id="@ID@-data">@DATA@</script>
<script>
(() => {
  const root = document.getElementById("@ID@");
  const data = JSON.parse(document.getElementById("@ID@-data").textContent);
  const find = (selector) => root.querySelector(selector);
  const [order, slider, output] = ["select", "input", "output"].map(find);
  const part = (name) => find(`[data-part=${name}]`);

  const place = (tile, sheet, position, columns, rows, size) => {
    tile.style.backgroundImage = `url(${data[sheet]})`;
    tile.style.backgroundSize = `${columns * size}px ${rows * size}px`;
    tile.style.backgroundPosition = `${-(position % columns) * size}px ${-Math.floor(position / columns) * size}px`;
  };

  const bars = (values, fills, labels, what) => {
    const [high, low] = [Math.max(...values, 0), Math.min(...values, 0)];
    const scale = 60 / (high - low || 1);
    const zero = 12 + high * scale;
    const shapes = values.map((value, i) => {
      const height = Math.max(Math.abs(value) * scale, 0.5);
      const top = value < 0 ? zero : zero - height;
      return `<g><title>${labels[i]}: ${value}</title>` +
        `<rect x="${i * 20 + 2}" y="${top}" width="16" height="${height}" fill="${fills(i)}" stroke="#8888"/>` +
        `<text x="${i * 20 + 10}" y="92" text-anchor="middle" font-size="11" fill="currentColor">${i}</text></g>`;
    });
    const said = values.map((value, i) => `${labels[i]} ${value}`).join(", ");
    return `<svg width="202" height="96" role="img" aria-label="${what}: ${said}">` +
      `<line x1="0" x2="202" y1="${zero}" y2="${zero}" stroke="currentColor" stroke-width="0.5"/>` +
      `<text x="0" y="9" font-size="10" fill="currentColor">max ${high}</text>${shapes.join("")}</svg>`;
  };

  const digits = [...Array(10).keys()].map(String);
  const show = () => {
    const feature = data.orders[order.value][slider.value];
    output.textContent = `feature ${feature} (${+slider.value + 1} of ${data.count})`;
    slider.setAttribute("aria-valuetext", output.textContent);
    place(part("preferred"), "preferred", feature, data.columns, data.rows, 118);
    part("preferred").setAttribute("aria-label", `Preferred input of feature ${feature}`);
    [...part("examples").children].forEach((tile, i) => {
      place(tile, "examples", feature * data.shown + i, data.shown, data.count, 56);
    });
    part("color").innerHTML = bars(data.color[feature], (i) => data.palette[i], data.names, "by colour");
    part("digit").innerHTML = bars(data.digit[feature], () => "#0072b2", digits, "by digit");
    part("push").innerHTML = bars(data.push[feature], () => "#9a9a9a", digits, "push on logits");
    find("dl").replaceChildren(...Object.entries(data.facts).flatMap(([name, values]) => {
      const [term, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = name;
      text.textContent = values[feature];
      return [term, text];
    }));
  };

  part("examples").replaceChildren(...Array.from({ length: data.shown }, (_, i) => {
    const tile = document.createElement("div");
    tile.className = "fb-tile";
    tile.setAttribute("role", "img");
    tile.setAttribute("aria-label", `Strongest image ${i + 1}`);
    return tile;
  }));
  order.addEventListener("change", () => { slider.value = 0; show(); });
  slider.addEventListener("input", show);
  show();
})();
</script>
"""
