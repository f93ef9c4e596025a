"""Draw the README's picture with the library: a photograph, what a tenth of its numbers hold, and two answers."""

import sys

import torch
from PIL import Image
from repo import ROOT

import idm_lib as idm
from idm_lib import notebook as nb
from idm_lib.notebook.images import side_by_side
from idm_lib.solvers import get_solver

OUT = ROOT / "book" / "_static" / "teaser.webp"


def main() -> int:
    """Write ``book/_static/teaser.webp`` and print what is in it."""
    x = nb.photo("astronaut")  # (1, 1, 256, 256)
    op = idm.BlockCS(image_size=(256, 256), ratio=0.1, seed=0)
    y = op.A(x)
    prior = idm.Denoiser.from_pretrained("prior-tiny")
    total_variation = get_solver("tv")(y, op).image
    learned = get_solver("oamp")(y, op, prior).image
    # Brightened: the pseudo-inverse holds a tenth of the energy and would be nearly black.
    pseudo_inverse = (op.A_dagger(y) / op.true_ratio).clamp(0, 1)
    pixels = side_by_side([x, pseudo_inverse, total_variation, learned], gap=8)
    Image.fromarray(pixels).save(OUT, "WEBP", quality=82, method=6)
    print(f"{OUT.name}: photograph, pseudo-inverse, total variation, denoiser in OAMP; {OUT.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    with torch.no_grad():
        sys.exit(main())
