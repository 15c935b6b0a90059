"""Errors that a user can mend: one line, no traceback, exit code 2."""


class UsageError(Exception):
  """Says in one line what was expected, what came and what to do.

  Doors print it as `error: <message>` and exit with code 2; anything else
  that is raised is a defect of ours and keeps its traceback.
  """
