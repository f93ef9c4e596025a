"""The few pieces of HTML and CSS that figures share. No page element here asks for anything over the network."""

from dataclasses import dataclass
from html import escape

from idm_lib.errors import InputError

# Every output carries its own copy: a notebook is also read in JupyterLab and Colab, where the book's style
# sheet is absent and each output may live in a frame of its own.
STYLE = (
    "<style>"
    ".nbf{margin:1rem 0;max-width:100%;color:inherit;text-align:left}"
    ".nbf figcaption{font-size:.9em;font-weight:400;line-height:1.45;margin-top:.6rem;opacity:.88;max-width:44rem}"
    # Images in a row: all --n beside each other where each has --w; else --half a row; else as many as there is room
    # for. All tracks are of one width, up to --m. A length times 999 is an "if": it is below or above all others.
    ".nbf-row{--g:.8rem;--all:calc(var(--n)*(var(--w) + var(--g)) - var(--g));display:grid;gap:var(--g);"
    "align-items:start;max-width:max(calc(var(--half)*(var(--m) + var(--g)) - var(--g)),"
    "min(calc(var(--n)*(var(--m) + var(--g)) - var(--g)),calc((100% - var(--all) + 1px)*999)));"
    "grid-template-columns:repeat(auto-fit,minmax(min(100%,max(var(--w),min(calc((100% + var(--g))/var(--half) - "
    "var(--g) - .1px),calc((var(--all) - 100%)*999)))),1fr))}"
    ".nbf-cell{min-width:0;max-width:min(100%,var(--m,100%));margin:0}"
    ".nbf-cell img{display:block;max-width:100%;height:auto;border-radius:6px;background:#fff}"
    ".nbf-title{display:block;font-size:.88em;margin-top:.3rem;opacity:.9}"
    ".nbf-px{image-rendering:pixelated}"
    ".nbf [hidden]{display:none!important}"
    ".nbf-bar{display:flex;flex-wrap:wrap;gap:.3rem .9rem;align-items:center;margin:0 0 .6rem}"
    ".nbf-bar input{flex:1 1 12rem;max-width:26rem;min-width:8rem;accent-color:#c2571a;height:1.6rem;cursor:pointer}"
    ".nbf-bar output{font-variant-numeric:tabular-nums;font-weight:600}"
    ".nbf-svg{overflow-x:auto}.nbf-svg svg{display:block;width:100%;height:auto;min-width:20rem}"
    ".nbf-svg text{font-family:inherit!important}"
    ".nbf-wipe{position:relative;display:inline-block;max-width:100%;line-height:0;--p:50%}"
    ".nbf-wipe img{display:block;max-width:100%;height:auto;border-radius:6px}"
    ".nbf-wipe img+img{position:absolute;inset:0;width:100%;height:100%;clip-path:inset(0 calc(100% - var(--p)) 0 0)}"
    ".nbf-wipe i{position:absolute;top:0;bottom:0;left:var(--p);width:3px;margin-left:-1px;background:#c2571a;"
    "box-shadow:0 0 0 1px #fff;pointer-events:none}"
    ".nbf-wipe input{position:absolute;inset:0;width:100%;height:100%;margin:0;opacity:0;cursor:ew-resize}"
    ".nbf-wipe input:focus-visible~i{width:7px;margin-left:-3px}"
    ".nbf table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.95em}"
    ".nbf th,.nbf td{padding:.25rem .9rem .25rem 0;text-align:left;border-bottom:1px solid rgba(127,135,144,.35)}"
    ".nbf td.n,.nbf th.n{text-align:right;white-space:nowrap}.nbf-scroll{overflow-x:auto}"
    ".nbf-note{font-size:.85em;opacity:.85}"
    "</style>"
)


@dataclass(frozen=True)
class Html:
    """HTML that a notebook shows, with plain text for readers without a browser."""

    html: str
    text: str


def check_words(caption: str, alt: str) -> None:
    """Refuse a figure that a reader who cannot see it would miss.

    Raises:
        InputError: If the caption or the alternative text is missing, short, or a file name.
    """
    if len(caption.strip()) < 10:
        raise InputError(f"expected a caption of a sentence, got {caption!r}; say what the reader should see")
    looks_like_file = " " not in alt.strip() or alt.strip().lower().endswith((".png", ".jpg", ".svg", ".webp"))
    if len(alt.strip()) < 20 or looks_like_file:
        raise InputError(f"expected alt text of a sentence, got {alt!r}; describe the figure for who cannot see it")


def wrap(body: str, caption: str, alt: str, kind: str) -> Html:
    """Return ``body`` as a captioned figure."""
    html = f'{STYLE}<figure class="nbf nbf-{kind}">{body}<figcaption>{escape(caption)}</figcaption></figure>'
    return Html(html, f"[{kind}] {caption} ({alt})")


def emit(output: Html, mimetype: str = "text/html") -> None:
    """Show ``output`` in the notebook; without one, print its text."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(output.text)
        return
    if get_ipython() is None:
        print(output.text)
    else:
        display({mimetype: output.html, "text/plain": output.text}, raw=True)
