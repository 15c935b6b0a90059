"""Caption templates: wordings with slots, disjoint from split to split.

Slots: {lead} and {a_lead} (what leads, bare and with its article), {others}
(what else is audible), {style} (the genre), {piece} (a countable noun for it),
{tempo}, {bpm}, {key}, {mode}, {metre}, {mood}, {use}, {loud}, {bright},
{dense}, {texture}. Long captions are built of sentences; a sentence belongs to
one split as well.
"""

import functools
import itertools

import numpy as np

from musiclm_jax.rendered_music.splits import SPLITS

SINGLE = (
  '{lead}',
  '{style}',
  '{mood}',
  '{lead} music',
  '{style} music',
  '{tempo}',
  '{lead} solo',
  '{mood} music',
  '{lead} tune',
  '{style} tune',
)
SILENCE = (
  'near silence',
  'almost silent recording',
  'silence',
  'a recording in which hardly anything can be heard',
  'very faint, nearly silent audio',
  'almost nothing is audible',
  'nearly no sound at all',
  'a silent track',
  'faint noise floor, no clear music',
  'inaudible music',
)
SHORT = (
  'a {tempo} {piece} on {a_lead}',
  '{a_lead} playing a {mood} {piece}',
  '{mood} {piece} with {a_lead}',
  'a {mood} melody on {a_lead}',
  '{tempo} {piece} at {bpm} bpm',
  '{piece} in {key}',
  'a {piece} in {metre}',
  '{a_lead} and {others}',
  '{a_lead} over {others}',
  '{tempo} music for {use}',
  'music for {use}, led by {a_lead}',
  'a {mood} piece in {key}',
  'a {tempo} tune at {bpm} beats per minute',
  '{a_lead} melody backed by {others}',
  '{style} band with {others}',
  'a {loud} {piece} with {a_lead}',
  '{a_lead} with a {bright} sound',
  'a {dense} arrangement of {others}',
  '{mood} and {tempo} {piece}',
  'a {tempo} piece in {metre}',
  '{a_lead} plays at {bpm} bpm',
  'a {mood} {piece} for {use}',
  'a {style} groove with {others}',
  '{a_lead} in {key}, {tempo}',
  '{texture} {style} music',
  'a {texture} piece with {a_lead}',
  '{tempo} and {loud} {piece}',
  'something {mood} with {a_lead}',
  'i hear {a_lead} and {others}',
  'a {bright} recording of a {piece}',
  '{piece}, {bpm} bpm, {key}',
  '{a_lead} carries the tune of this {piece}',
  'this is a {piece} led by {a_lead}',
  'a {tempo} {mood} tune',
  '{others} behind {a_lead}',
  'a {piece} that sounds {mood}',
  'background music for {use}',
  '{mood} music in the {mode} mode',
  'a {mode} melody on {a_lead}',
  '{a_lead} leads a {tempo} song',
  'an instrumental {piece} with {a_lead}',
  'an instrumental in {key}',
  'a song with {others}',
  'a {tempo} beat of {bpm} bpm with {a_lead}',
  '{piece} featuring {a_lead}',
  '{piece} featuring {others}',
  'a {mood} instrumental featuring {a_lead}',
  '{a_lead} in the foreground, {others} in the background',
  'a {tempo} {piece} in {metre} for {use}',
  '{mood} {lead} music',
  '{tempo} {lead} music',
  '{lead} {piece}',
  '{tempo} {lead} {piece}',
  'a {loud} and {mood} track',
  'a {dense} {piece}',
  'a {dense} and {tempo} piece',
  'a {bright} {lead} tone',
  '{loud} {lead} music at {bpm} bpm',
  '{lead} tune in {key}',
  '{lead} music in {metre}',
  'a {style} track at around {bpm} bpm',
  'the sound of {a_lead}',
  'a melody played on {a_lead} at a {tempo} pace',
  'a {mood} {lead} theme for {use}',
  'perfect for {use}: {mood} {piece}',
  'a {tempo} {mode} tune with {a_lead}',
  'a {texture} performance in {key}',
  '{others} play a {piece}',
  '{others} keep a {tempo} beat',
  'a {piece} with a {tempo} beat and {others}',
  'a {mood} tune in {metre}',
  'tempo {bpm}, key of {key}',
  '{piece} with a {bright} mix',
  'a {mood} theme on {a_lead}, {loud}',
  'a {mood} song, {others}',
  'a {lead} song for {use}',
  'dance to a {tempo} {piece}',
  'a {dense} {lead} piece',
  'a {piece} of {bpm} beats per minute with {a_lead}',
  '{a_lead} sings a {mood} tune',
  'a {piece} played by {a_lead} with {others}',
  'a {loud} {tempo} instrumental',
  'a {tempo} number in {key} with {others}',
  '{key}, {metre}, {tempo}',
  'a {mood} mood, {a_lead} on top',
  'a {style} tune, {mood} in character',
  'a track with {a_lead} at {bpm} bpm in {key}',
  'some {mood} {piece} please',
  'play a {tempo} {piece} with {a_lead}',
  'give me {mood} {lead} music',
  'i want a {piece} with {others}',
  'a {tempo} piece for {use}',
  'a {mode} {piece} on {a_lead}',
  'a {style} lick on {a_lead}',
  'steady {bpm} bpm pulse with {others}',
)
OPENERS = (
  'This is a {tempo} {piece}.',
  'The track is an instrumental {piece}.',
  'A {mood} {piece} is playing.',
  'The recording features a {piece} at {bpm} bpm.',
  'This instrumental song is {mood} and {tempo}.',
  'Here we have a {piece}.',
  'A {tempo} tune in {metre}.',
  'The clip presents a {piece} in {key}.',
  'An instrumental track of {style} style.',
  'We hear a {texture} playing a {piece}.',
  'The music is a {mood} {piece}.',
  'A {tempo} instrumental plays.',
  'The song moves at {bpm} beats per minute.',
  'It is a {piece} in {metre}.',
  'Someone performs a {tempo} {piece}.',
)
LEADS = (
  'The melody is played by {a_lead}.',
  '{a_lead} takes the lead.',
  'It features {a_lead} playing the main melody.',
  'The main tune is carried by {a_lead}.',
  '{a_lead} plays the theme.',
  'There is {a_lead} in the foreground.',
  'The lead instrument is {a_lead}.',
  'On top, {a_lead} plays a tune.',
  'One hears {a_lead} above all.',
  'The tune belongs to {a_lead}.',
)
BACKING = (
  'It is accompanied by {others}.',
  'In the background there are {others}.',
  'The accompaniment consists of {others}.',
  '{others} support the melody.',
  'Behind it one hears {others}.',
  'The rhythm is kept by {others}.',
  'Other instruments are {others}.',
  'The backing is made of {others}.',
  'Underneath, {others} can be heard.',
  'The arrangement adds {others}.',
)
FACTS = (
  'The tempo is {tempo}, about {bpm} bpm.',
  'The key is {key}.',
  'It is in {metre}.',
  'The sound is {bright}.',
  'The texture is {dense}.',
  'It is {loud} throughout.',
  'The harmony is {mode}.',
  'The beat is {tempo}.',
  'The piece stands in {key}, with {metre} as its metre.',
  'The volume is {loud} and the playing {dense}.',
)
CLOSERS = (
  'The mood is {mood}.',
  'The song would fit {use}.',
  'It sounds {mood} and {bright}.',
  'This could be used for {use}.',
  'The atmosphere is {mood}.',
  'One can imagine it at {use}.',
  'Overall it feels {mood}.',
  'It would suit {use}.',
  'The feeling is {mood} and {loud}.',
  'Such music is made for {use}.',
)
_TAG_SLOTS = (
  'lead',
  'style',
  'tempo',
  'mood',
  'key',
  'metre',
  'others',
  'bpm_tag',
  'loud',
  'bright',
  'dense',
)
_NUM_TAGS = 70
_NUM_LONG = {'train': 48, 'validation': 12, 'test': 12}


def _share(items: tuple[str, ...], split: str) -> tuple[str, ...]:
  """Every fifth item is validation's, every fifth test's, the rest train's."""
  places = {'train': (0, 1, 2), 'validation': (3,), 'test': (4,)}[split]
  return tuple(x for i, x in enumerate(items) if i % 5 in places)


@functools.cache
def _tags() -> tuple[str, ...]:
  """Lists of tags: 2 to 6 slots in many orders."""
  rng = np.random.default_rng(11)
  found: dict[str, None] = {}
  while len(found) < _NUM_TAGS:
    count = int(rng.integers(2, 7))
    slots = rng.permutation(len(_TAG_SLOTS))[:count]
    found[', '.join(f'{{{_TAG_SLOTS[i]}}}' for i in slots)] = None
  return tuple(found)


@functools.cache
def _long(split: str) -> tuple[str, ...]:
  """Captions of three to five sentences, each of this split alone."""
  rng = np.random.default_rng([12, SPLITS.index(split)])
  groups = [_share(g, split) for g in (OPENERS, LEADS, BACKING, FACTS, CLOSERS)]
  choices = list(itertools.product(*(range(len(g)) for g in groups)))
  found: dict[str, None] = {}
  while len(found) < _NUM_LONG[split]:
    picks = choices[rng.integers(len(choices))]
    sentences = [g[i] for g, i in zip(groups, picks, strict=True)]
    # Leave out up to two sentences and swap the middle ones.
    drop = set(rng.permutation(5)[: rng.integers(0, 3)].tolist())
    middle = rng.permutation([1, 2, 3]).tolist()
    order = [0, *middle, 4]
    kept = [sentences[i] for i in order if i not in drop]
    found[' '.join(kept)] = None
  return tuple(found)


@functools.cache
def templates(split: str) -> dict[str, tuple[str, ...]]:
  """Kind (`tags`, `single`, `short`, `long`, `silence`) -> templates.

  Those of one split occur in no other.
  """
  return {
    'tags': _share(_tags(), split),
    'single': _share(SINGLE, split),
    'short': _share(SHORT, split),
    'long': _long(split),
    'silence': _share(SILENCE, split),
  }
