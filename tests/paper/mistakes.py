"""Mistakes that earlier re-implementations made, by number.

Tests name in their docstring the mistakes of `MISTAKES` that they would find
('Mistake 12: …'); `holders` reads them there. What no test can find has a
reason.
"""

import ast
import dataclasses
import functools
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parents[1]
_NAMED = re.compile(r'[Mm]istakes? (\d+b?(?:(?:, | and )\d+b?)*)')


@dataclasses.dataclass(frozen=True)
class Mistake:
  """A mistake seen in public code.

  Attributes:
    number: As tests name it.
    what: Was done.
    reason: Why no test holds it; empty where tests do.
    pattern: A regular expression, of small letters, that matches the package
      once it could be made here.
  """

  number: str
  what: str
  reason: str = ''
  pattern: str = ''


MISTAKES = tuple(
  Mistake(*row)
  for row in (
    ('1', 'a strided causal convolution is padded without its stride'),
    ('2', 'the reconstruction loss is missing, or another norm'),
    ('3', 'other factors α, and the longest window left out'),
    ('4', 'absolute values of spectral logits'),
    ('5', "the codec's hinge is not clipped"),
    ('6', "gradients reach the other player's step, or some parameters never"),
    ('7', 'the spectral discriminator counts more than the others'),
    ('8', 'strides for 16 kHz at 24 kHz'),
    ('9', 'losses against the noisy input where noise shall be taken out'),
    ('9b', 'decoding codes is not the forward pass of training'),
    ('10', 'codebooks are averaged with the parameters'),
    ('11', 'the reconstruction loss is summed, and explodes'),
    ('12', 'a replaced entry is overwritten in the same step'),
    ('13', 'codebooks differ from device to device'),
    ('14', 'quantizers move while language models train'),
    ('15', 'levels dropped per batch; codes of -1 in the decoder'),
    ('16', 'text reaches the quantizer on another scale than audio'),
    ('17', 'tokens made with the mask of training on'),
    ('18', 'the wrong sample rate for the semantic network'),
    ('19', 'input normalised in training and not in use'),
    ('20', 'features normalised by vector, not by dimension'),
    ('21', "another block's features; fitted on crops of another length"),
    ('22', 'frame counts that are not rate times seconds'),
    ('23', 'ids of one level meet those of the next'),
    ('24', 'ends in the wrong place; ids out of range'),
    ('25', 'what was sampled is not fed back'),
    (
      '26',
      'a forgetful mask made after its use, or on conditioning tokens',
      'no paper has such a mask and there is none here',
    ),
    (
      '27',
      'repeated tokens removed in training but not in use; padding embedded',
      'nothing removes tokens, and crops have one length: nothing is padded',
    ),
    ('28', "a continuation's prompt is ignored or counted twice"),
    ('29', 'a fast attention without positions'),
    ('30', 'one axis of positions for segments of several rates'),
    ('31', 'the output of attention is never used'),
    ('32', 'conditioning tokens count in the denominator of the loss'),
    ('33', 'streams of one example cut at different places, or from silence'),
    ('34', 'rounding lets 25 and 50 Hz drift apart'),
    ('35', 'the total length taken for that of a window'),
    ('36', "another stream's codebook size"),
    ('37', 'a restored model samples otherwise than the trained one'),
    ('38', 'top-k and guidance by default'),
    ('39', 'a MuLan without mels, logarithm, 10 s windows'),
    ('40', 'judged before it could overfit a batch'),
    (
      '41',
      'tricks that no paper has: shrunk gradients, gates, value residuals',
      'none of these is here; what the small sizes need instead is off in the '
      'paper configs, see the numbers above',
    ),
    ('42', 'a ReLU after VGGish'),
    ('43', 'other hops or levels before FAD'),
    ('44', 'samples scaled twice, or integers read as floats'),
    ('45', 'half precision before a covariance'),
    ('46', 'KL the other way round, or of other scores'),
    ('47', 'a text projection that collapses', 'CLAP is not used', 'laion'),
    ('48', 'FAD of few, equal or silent clips'),
  )
)


def nodes(path: Path) -> dict[str, str]:
  """Finds a file's tests: name -> docstring."""
  return {
    node.name: ast.get_docstring(node) or ''
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef) and node.name.startswith('test')
  }


@functools.cache
def holders() -> dict[str, list[str]]:
  """Finds which tests name a mistake: number -> nodes below `tests/`."""
  found = defaultdict(list)
  for path in sorted(TESTS.rglob('test_*.py')):
    for name, docstring in nodes(path).items():
      for group in _NAMED.findall(docstring):
        for number in re.findall(r'\d+b?', group):
          node = f'{path.relative_to(TESTS).as_posix()}::{name}'
          found[number].append(node)
  return dict(found)
