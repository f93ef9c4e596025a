"""Measurements worth recording: each module has ``main(argv)`` and writes ``results/NAME.json``."""
