"""Sliders that move without a kernel: the frames are in the page, a range input chooses among them."""

from collections.abc import Sequence
from html import escape
from typing import Any

from idm_lib.errors import InputError
from idm_lib.notebook.html import check_words, emit, wrap
from idm_lib.notebook.images import img, side_by_side, to_pixels

# Inline handlers rather than a script: they work in the static page, in JupyterLab and in Colab's frames alike,
# and two sliders on a page cannot meet.
CHOOSE = (
    "var f=this.closest('figure'),v=this.value,l='';"
    "f.querySelectorAll('[data-k]').forEach(function(e){e.hidden=e.dataset.k!==v;if(!e.hidden)l=e.dataset.label});"
    "f.querySelector('output').textContent=l;this.setAttribute('aria-valuetext',l)"
)
_WIPE = "this.parentNode.style.setProperty('--p',this.value+'%')"


def slider(
    frames: Sequence[Any],
    labels: Sequence[str],
    *,
    name: str,
    caption: str,
    alt: str | Sequence[str],
    start: int = 0,
    width: int | None = None,
) -> None:
    """Show one of several frames, chosen by mouse, touch or arrow keys.

    Args:
        frames: Images (see ``images.to_pixels``), or lists of images of one height to show side by side.
        labels: What each frame is, e.g. "γ = 10 %"; read out by screen readers as the slider moves.
        name: What the slider sets, e.g. "ratio".
        caption: What the reader should see.
        alt: What is in the frames, for who cannot see them; or one text for each frame.
        start: Index of the frame shown first.
        width: CSS pixels of a frame; None shows it at its own size, at least 200.

    Raises:
        InputError: If there are fewer than two frames, labels do not match, or words are missing.
    """
    alts = [alt] * len(frames) if isinstance(alt, str) else list(alt)
    for words in alts:
        check_words(caption, words)
    if len(alts) != len(frames):
        raise InputError(f"expected one alt text or {len(frames)}, got {len(alts)}; write one for each frame")
    if len(frames) < 2 or len(frames) != len(labels):
        raise InputError(
            f"expected at least two frames and a label for each, got {len(frames)} and {len(labels)}; match them"
        )
    if not 0 <= start < len(frames):
        raise InputError(f"expected start between 0 and {len(frames) - 1}, got {start}; choose a frame that is there")
    parts = []
    for index, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        pixels = side_by_side(frame) if isinstance(frame, (list, tuple)) else to_pixels(frame)
        hidden = "" if index == start else " hidden"
        parts.append(
            f'<div class="nbf-cell" data-k="{index}" data-label="{escape(label)}"{hidden}>'
            f"{img(pixels, f'{name}: {label}. {alts[index]}', width)}</div>"
        )
    first = escape(labels[start])
    bar = (
        f'<div class="nbf-bar"><span aria-hidden="true">{escape(name)}</span>'
        f'<input type="range" autocomplete="off" min="0" max="{len(frames) - 1}" step="1" value="{start}" '
        f'aria-label="{escape(name)}" aria-valuetext="{first}" oninput="{CHOOSE}"><output>{first}</output></div>'
    )
    emit(wrap(bar + "".join(parts), caption, alts[start], "slider"))


def compare(
    before: Any,
    after: Any,
    labels: tuple[str, str] = ("before", "after"),
    *,
    caption: str,
    alt: str,
    width: int | None = None,
) -> None:
    """Show two images of one size on top of each other, with a line to wipe from one to the other.

    Args:
        before: Shown left of the line; see ``images.to_pixels``.
        after: Shown right of the line.
        labels: What the two are.
        caption: What the reader should see.
        alt: What is in the images, for who cannot see them.
        width: CSS pixels; None shows them at their own size, at least 200.

    Raises:
        InputError: If the sizes differ or words are missing.
    """
    check_words(caption, alt)
    left, right = to_pixels(before), to_pixels(after)
    if left.shape[:2] != right.shape[:2]:
        raise InputError(f"expected two images of one size, got {left.shape[:2]} and {right.shape[:2]}; resize one")
    names = f"{labels[0]} on the left, {labels[1]} on the right"
    body = (
        f'<div class="nbf-wipe">{img(right, f"{labels[1]}. {alt}", width)}{img(left, f"{labels[0]}. {alt}", width)}'
        f'<input type="range" autocomplete="off" min="0" max="100" step="1" value="50" '
        f'aria-label="wipe: {escape(names)}" oninput="{_WIPE}"><i></i></div>'
        f'<span class="nbf-title">{escape(names)}<span class="nbf-how">: drag, or use the arrow keys</span></span>'
    )
    emit(wrap(body, caption, alt, "compare"))
