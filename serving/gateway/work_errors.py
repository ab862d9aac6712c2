"""Why an attempt at a piece of work failed. The reasons are fixed texts: they appear in logs and in the database."""


class TryAgain(Exception):
    """Raised if a later attempt may succeed, such as when a server is unavailable."""


class GiveUp(Exception):
    """Raised if no later attempt can succeed until somebody changes something."""
