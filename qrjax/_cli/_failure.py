class Failure(Exception):
    """What went wrong and how to repair it, in words for the user; ends the command with status 1."""
