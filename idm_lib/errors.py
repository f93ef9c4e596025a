"""The one exception that user input can raise."""


class InputError(ValueError):
    """What was given cannot be used: one sentence with what was expected, what came, and what to do."""
