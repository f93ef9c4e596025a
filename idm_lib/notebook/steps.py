"""Diagrams that the reader steps through: every frame is in the page, buttons or a range input choose among them."""

from collections.abc import Sequence
from html import escape

from idm_lib.errors import InputError
from idm_lib.notebook.drawing import Frame, typeset
from idm_lib.notebook.html import Html, check_words, emit, wrap
from idm_lib.notebook.sliders import CHOOSE

# The frames lie on top of each other, so that the page below keeps its place while they change. A frame that is not
# shown has the attribute ``hidden``: it is out of sight and out of a screen reader's way, but keeps its room.
# On paper, and where scripts do not run, all frames are shown, one after another.
_ALL = (
    ".nbf-steps .nbf-bar{display:none}.nbf-stage{grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));"
    "gap:1.2rem}.nbf-stage .nbf-frame,.nbf-stage .nbf-frame[hidden]{grid-area:auto;visibility:visible;opacity:1;"
    "break-inside:avoid}"
)
_STYLE = (
    "<style>"
    ".nbf-stage{display:grid;align-items:start}"
    ".nbf-frame{grid-area:1/1;display:flex;flex-wrap:wrap;gap:.6rem 1.6rem;align-items:center;min-width:0}"
    ".nbf-stage .nbf-frame[hidden]{display:flex!important;visibility:hidden}"
    ".nbf-frame svg{display:block;flex:1 1 18rem;min-width:0;max-width:28rem;height:auto}"
    ".nbf-frame p{flex:1 1 12rem;min-width:0;max-width:30rem;margin:0;line-height:1.5}"
    ".nbf-frame p b{display:block}.nbf-frame sub{line-height:0}"
    ".nbf-go{font:inherit;font-weight:600;color:inherit;background:none;border:1.5px solid;border-radius:6px;"
    "min-height:2.5rem;padding:.2rem .7rem;cursor:pointer}"
    ".nbf-go:focus-visible{outline:3px solid #2f7fc1;outline-offset:2px}"
    '.nbf-go[aria-disabled="true"]{opacity:.5;cursor:default}'
    ".nbf-steps .nbf-bar{gap:.3rem .6rem}.nbf-steps .nbf-bar input{min-width:3rem;flex:1 1 3rem}"
    ".nbf-steps .nbf-bar output{white-space:nowrap}"
    "@media (prefers-reduced-motion:no-preference){.nbf-frame{transition:opacity .18s}"
    ".nbf-frame[hidden]{opacity:0;transition:none}}"
    f"@media print,(scripting:none){{.nbf-steps{{break-inside:auto!important}}{_ALL}}}"
    "</style>"
)
_STEP = (
    f"{CHOOSE};var m=this.max;f.querySelectorAll('button').forEach(function(b)"
    "{b.setAttribute('aria-disabled',String(v===(b.value<0?'0':m)))})"
)
_GO = "var r=this.parentNode.querySelector('input');r.value=+r.value+ +this.value;r.dispatchEvent(new Event('input'))"


def stepped(frames: Sequence[Frame], *, name: str, caption: str, alt: str) -> None:
    """Show a diagram one frame at a time; the reader goes back and forth by mouse, touch or keyboard.

    Args:
        frames: at least two; see :mod:`idm_lib.notebook.diagrams`.
        name: what is stepped through, e.g. "the coupling"; the name of the controls for who cannot see them.
        caption: what the reader should see.
        alt: what the diagram shows as a whole, for who cannot see it; every frame also says what is in it.

    Raises:
        InputError: If there are fewer than two frames, or words are missing.
    """
    check_words(caption, alt)
    if len(frames) < 2:
        raise InputError(f"expected at least two frames, got {len(frames)}; one picture needs no steps")
    last = len(frames) - 1
    labels = [f"{i} of {len(frames)}" for i in range(1, len(frames) + 1)]
    shown = "".join(
        f'<div class="nbf-frame" data-k="{i}" data-label="{label}"{" hidden" if i else ""}>{frame.svg}'
        f"<p><b>{i + 1}. {typeset(frame.title)}</b> {typeset(frame.words)}</p></div>"
        for i, (label, frame) in enumerate(zip(labels, frames, strict=True))
    )

    def button(by: int, words: str, label: str, off: bool) -> str:
        disabled = "true" if off else "false"
        return (
            f'<button type="button" class="nbf-go" value="{by}" aria-label="{label}" aria-disabled="{disabled}" '
            f'onclick="{_GO}">{words}</button>'
        )

    bar = (
        f'<div class="nbf-bar" role="group" aria-label="{escape(name)}">'
        f"{button(-1, '← Back', 'Back one step', True)}"
        f'<input type="range" autocomplete="off" min="0" max="{last}" step="1" value="0" '
        f'aria-label="{escape(name)}, step" aria-valuetext="{labels[0]}" oninput="{_STEP}">'
        f"{button(1, 'Next →', 'Next step', False)}<output>{labels[0]}</output></div>"
    )
    stage = f'<div class="nbf-stage" role="group" aria-label="{escape(alt)}" aria-live="polite">{shown}</div>'
    told = "\n".join(f"{i}. {frame.title} {frame.words}" for i, frame in enumerate(frames, 1))
    figure = wrap(bar + stage, caption, alt, "steps")
    emit(Html(_STYLE + figure.html, f"{figure.text}\n{told}"))
