"""Errors that a user can mend. Each is shown as one line and ends the process with status 1; anything else is a bug with a traceback."""


class TesseraError(Exception):
    """Base of all errors that are shown as one line."""


class ConfigError(TesseraError, ValueError):
    """A configuration that cannot be run. The message is one text for whoever wrote it."""
