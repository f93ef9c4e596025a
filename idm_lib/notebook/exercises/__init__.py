"""Exercises of the chapters, one module each: ``ch01`` holds those of chapter 01."""
