"""Prompts: texts, sounds, mixes and stories, and what is none."""

import types

import numpy as np
import pytest

from musiclm_jax.cascade import prompts
from musiclm_jax.cascade.prompts import (
  Mixture,
  PromptEncoder,
  SoundPrompt,
  Story,
)
from musiclm_jax.contracts.errors import UsageError

TONE = (0.3 * np.sin(np.arange(24000) * 0.1)).astype(np.float32)
# What MuLan's towers say of them, without the mean of their modality.
SPACE = {'north': (0.0, 1.0), 'east': (1.0, 0.0), 'tone': (-1.0, 0.0)}


@pytest.fixture
def encoder():
  tokenizer = types.SimpleNamespace(
    embed_text=lambda texts: np.asarray([SPACE[t] for t in texts]),
    embed_audio=lambda rows: np.asarray([SPACE['tone']] * len(rows)),
    centre=lambda embedding, modality: embedding,
    encode_text=lambda texts: np.full((len(texts), 12), 7),
    encode_centred=lambda rows: np.repeat(
      np.round(100 * rows[:, :1]).astype(int), 12, axis=1
    ),
  )
  return PromptEncoder(tokenizer, text_levels=2, levels=12)


def test_a_mix_lies_between_its_ends_by_its_weights(encoder):
  mixed = [
    encoder.embedding(Mixture([('north', 1 - share), ('east', share)]))
    for share in (0.1, 0.3, 0.5, 0.7, 0.9)
  ]
  cosines = np.asarray(mixed) @ np.asarray(SPACE['east'])
  assert (np.diff(cosines) > 0).all() and 0 < cosines[0] < cosines[-1] < 1
  np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1, atol=1e-6)
  assert encoder.tokens(Mixture([('north', 1.0)]))[0] == 0
  assert encoder.tokens(Mixture([('east', 2.0)]))[0] == 100, (
    'weights are shares'
  )
  assert encoder.tokens('north')[0] == 7, 'a text alone is as it was'


def test_sounds_are_read_at_all_levels_and_texts_at_those_that_agree(encoder):
  assert encoder.levels('north') == 2
  assert encoder.levels(SoundPrompt(TONE)) == 12
  assert (
    encoder.levels(Mixture([(SoundPrompt(TONE), 1.0), ('north', 1.0)])) == 2
  )
  assert encoder.tokens(SoundPrompt(TONE))[0] == -100


def test_music_is_scored_by_what_is_asked_for_at_its_time(encoder):
  takes = np.stack([TONE, TONE])
  story = Story([(0.0, 'east'), (0.5, SoundPrompt(TONE))])
  for prompt, cosine in (('east', -1), (SoundPrompt(TONE), 1), (story, 0)):
    np.testing.assert_allclose(encoder.scores(prompt, takes), [cosine] * 2)


def test_prompts_survive_json():
  sound = SoundPrompt(TONE)
  digest = sound.facts['sound_sha256']
  for prompt in (
    'a text',
    sound,
    Mixture([('jazz', 0.7), (sound, 0.3)]),
    Story([(0.0, 'a'), (2.5, Mixture([('b', 1.0)])), (4.0, sound)]),
  ):
    record = prompts.to_json(prompt)
    again = prompts.from_json(record, {digest: TONE})
    assert prompts.to_json(again) == record
  with pytest.raises(UsageError, match='--sound'):
    prompts.from_json(prompts.to_json(sound), {})


@pytest.mark.parametrize(
  ('prompt', 'words'),
  [
    (Mixture([]), 'a mix is a list of'),
    (Mixture('ab'), 'a mix is a list of'),
    (Mixture([('a', 0)]), 'above 0, got 0'),
    (Mixture([('a', float('nan'))]), 'above 0, got nan'),
    (Mixture([('a', True)]), 'above 0, got True'),
    (Mixture([('', 1)]), '--text is empty'),
    (Mixture([(Mixture([('a', 1)]), 1)]), 'no mixes or stories'),
    (SoundPrompt('nowhere.wav'), "no file 'nowhere.wav'"),
    (Story([]), 'a story is a list of'),
    (Story([(1, 'a')]), 'first start of a story must be 0, got 1'),
    (Story([(0, 'a'), (0, 'b')]), 'must rise, got 0 after 0'),
    (Story([(0, 'a'), (5, 'b'), (3, 'c')]), 'must rise, got 3 after 5'),
    (Story([(0, 'a'), ('5', 'b')]), "in seconds, got '5'"),
    (Story([(0, 'a'), (float('inf'), 'b')]), 'in seconds, got inf'),
    (Story([(0, 3)]), '--text=3 is no text'),
    (Story([(0, Story([(0, 'a')]))]), 'holds no stories'),
  ],
)
def test_what_is_no_prompt_is_refused_in_a_line(prompt, words):
  with pytest.raises(UsageError, match=words) as caught:
    prompts.read(prompt)
  assert '\n' not in str(caught.value)


def test_a_story_is_read_from_yaml(tmp_path):
  path = tmp_path / 'story.yaml'
  path.write_text('- {start: 0, text: piano}\n- start: 5.5\n  text: Techno é\n')
  story = prompts.read_story(path)
  assert prompts.read(story) == [Story([(0.0, 'piano'), (5.5, 'Techno é')])]
  with pytest.raises(UsageError, match=r'start at 5\.5 s, .* 5 s long'):
    prompts.check_times(story, 5)
  prompts.check_times(story, 6)


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('', 'expected a list'),
    ('start: 0', 'expected a list'),
    ('- piano', 'entry 1: it must have start and text'),
    ('- {start: 0}', 'entry 1'),
    ('- {start: 0, text: a, seed: 3}', 'nothing else'),
    ('- {start: 0, text: [a, b]}', 'is no text'),
    ('- {start: 0, text: "a"', 'is no YAML'),
    ('- !!python/object/apply:os.system ["true"]', 'is no YAML'),
    ('- {start: 0, text: "\x07"}', 'is no YAML'),
    ('&a [*a]', 'entry 1'),
    ('[' * 100_000, 'is no YAML'),
    (
      'a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\n',
      'expected a list',
    ),
    ('- {start: 0, text: ' + 'a' * 1_100_000 + '}', 'more than 1 MB'),
  ],
)
def test_hostile_yaml_is_refused_in_a_line(text, words, tmp_path):
  path = tmp_path / 'story.yaml'
  path.write_text(text)
  with pytest.raises(UsageError, match=words) as caught:
    prompts.read(prompts.read_story(path))
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('given', ['jazz', 'jazz:', ':1', 'jazz:x', 'jazz:-1'])
def test_a_part_of_a_mix_has_a_weight(given):
  with pytest.raises(UsageError, match='a colon and a weight'):
    prompts.read_part(given, 'mix')


def test_the_weight_is_after_the_last_colon():
  assert prompts.read_part('in 4:4 time:0.5', 'mix') == ('in 4:4 time', 0.5)
