"""One figure style for the whole book: transparent ground, mid-tone colours, ink that follows the page."""

# Mid-tones: each keeps a contrast of at least 3:1 on a white page and on a dark one, and the first three
# stay apart for readers with red-green or blue-yellow colour blindness (after Okabe and Ito's palette).
COLORS = {
    "blue": "#2f7fc1",
    "orange": "#d55e00",
    "green": "#009e73",
    "purple": "#b5609a",
    "gold": "#b07d10",
    "grey": "#7f8790",
}

# A colour no plot uses otherwise. ``figures.figure`` turns it into ``currentColor``, so that axes and labels
# are drawn in the page's own text colour, whichever theme the reader has chosen.
INK = "#010203"


def apply_style() -> None:
    """Set matplotlib's defaults for this session: colours, line widths, no frame, ink that can follow a theme."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=list(COLORS.values())),
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "font.size": 11,
            "grid.color": INK,
            "grid.alpha": 0.14,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
            "image.cmap": "gray",
            "svg.fonttype": "none",
            "svg.hashsalt": "idm",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    )
