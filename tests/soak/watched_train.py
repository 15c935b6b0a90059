"""The train command, which keeps a word in $PHASE on what it is at.

`restore`, `compile`, `evaluate` and `save` are the training clock's own words;
`start` is before it, `step` between them.
"""

import contextlib
import os

from musiclm_jax import cli, train
from musiclm_jax.training.speed import Clock

_spending = Clock.spending


def say(phase: str) -> None:
  """Replaces the word."""
  with open(os.environ['PHASE'], 'w') as file:
    file.write(phase)


@contextlib.contextmanager
def _told(self, what):
  say(what)
  with _spending(self, what):
    yield
  say('step')


if __name__ == '__main__':
  say('start')
  Clock.spending = _told
  cli.run(train.main)
