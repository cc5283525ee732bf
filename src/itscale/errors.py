"""The error a user reads: one sentence saying what is wrong, where, and what to do."""


class UserError(Exception):
    """Wrong input or configuration; the command line prints its message alone and exits with status 1."""
