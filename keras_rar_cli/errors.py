"""The error that the command line tells in one line."""


class UserError(Exception):
    """A mistake of the user, described in one line."""
