"""The evaluate command: figures and their reasons, files of all kinds."""

import json
import re

import numpy as np
import pytest
import soundfile

from musiclm_jax.cascade import bundle as bundles
from musiclm_jax.cascade import networks
from musiclm_jax.cascade.musiclm import MusicLM

RATE = 24_000
PROMPTS = ('a slow waltz on a piano', 'fast techno with a synth lead')


def tone(k, seconds=3.0, noise=0.0, rate=RATE):
  """A chord of its own with a beat of its own."""
  rng = np.random.default_rng(k)
  time = np.arange(round(seconds * rate)) / rate
  pitch = rng.choice([110, 147, 196, 262, 330])
  x = sum(0.2 / h * np.sin(2 * np.pi * pitch * h * time) for h in range(1, 6))
  x = x * (0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(1, 3) * time))
  return x + noise * rng.standard_normal(len(x))


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """`plain`, `noisy` and `noisier`: 24 tones under the same names."""
  root = tmp_path_factory.mktemp('clips')
  for name, noise in (('plain', 0.0), ('noisy', 0.02), ('noisier', 0.2)):
    (root / name).mkdir()
    for k in range(24):
      soundfile.write(root / name / f'{k}.wav', tone(k, noise=noise), RATE)
  return root


@pytest.fixture
def evaluate(call, tmp_path):
  """A function (**flags) -> code, results, standard output and error."""

  def run(**flags):
    file = tmp_path / 'results.json'
    given = [f'--{name}={value}' for name, value in flags.items()]
    code, out, err = call('evaluate', f'--json={file}', *given)
    results = json.loads(file.read_text()) if code == 0 else None
    return code, results, out, err

  return run


def test_distances_are_flat_numbers_that_rise_with_noise(evaluate, folders):
  found = [
    evaluate(
      reference=folders / 'plain', generated=folders / n, metrics='fad,kad'
    )
    for n in ('plain', 'noisy', 'noisier')
  ]
  assert all(code == 0 for code, *_ in found)
  fads = [results['fad_tagger'] for _, results, *_ in found]
  kads = [results['kad_tagger'] for _, results, *_ in found]
  assert fads[0] < 1e-3 * fads[2] and fads[0] < fads[1] < fads[2]
  assert kads[0] < kads[1] < kads[2]
  results, out = found[2][1], found[2][2]
  details = results['details']
  for key in ('fad_tagger', 'fadinf_tagger', 'kad_tagger'):
    assert isinstance(results[key], float) and key in out
    facts = details[key]
    assert len(facts['sha256']) == 64 and '0.96' in facts['windowing']
    assert facts['seed'] == 0 and 'not VGGish' in facts['label']
    assert facts['n'] == {
      'reference': 72,
      'generated': 72,
      'reference_clips': 24,
      'generated_clips': 24,
    }
  low, high = details['fad_tagger']['interval']
  assert low < fads[2] < high
  assert details['fad_tagger']['per_song'].keys() == {
    f'{k}.wav' for k in range(24)
  }
  assert details['kad_tagger']['between_clips'] < kads[2]
  assert details['files']['generated'] == {
    'clips': 24,
    'skipped': [],
    'silent': [],
  }


def test_saved_statistics_stand_for_their_folder(evaluate, folders, tmp_path):
  file = tmp_path / 'reference.npz'
  pair = {'generated': folders / 'noisy', 'metrics': 'fad,kad'}
  first = evaluate(reference=folders / 'plain', save_statistics=file, **pair)
  again = evaluate(reference=file, **pair)
  assert first[0] == again[0] == 0, again
  for key in ('fad_tagger', 'fadinf_tagger', 'kad_tagger'):
    assert again[1][key] == first[1][key]
  code, *_, err = evaluate(reference=file, windowing='fad_tool', **pair)
  assert code == 2 and 'cannot be compared' in err
  code, *_, err = evaluate(reference=file, metrics='kld', generated=folders)
  assert code == 2 and 'give --reference=DIR' in err


def test_files_of_all_kinds_work_or_are_named(evaluate, folders, tmp_path):
  clips = tmp_path / 'clips'
  clips.mkdir()
  soundfile.write(clips / 'low.wav', tone(1, rate=8000), 8000)
  stereo = np.stack([tone(2, rate=96_000), tone(3, rate=96_000)], axis=1)
  soundfile.write(clips / 'high.flac', stereo, 96_000)
  soundfile.write(clips / 'silent.wav', np.zeros(3 * RATE), RATE)
  soundfile.write(clips / 'short.wav', tone(4, 0.5), RATE)
  (clips / 'broken.wav').write_bytes(b'RIFF....WAVE')
  code, results, out, err = evaluate(
    reference=folders / 'plain', generated=clips, metrics='fad'
  )
  assert code == 0
  files = results['details']['files']['generated']
  assert files == {
    'clips': 4,
    'skipped': ['broken.wav'],
    'silent': ['silent.wav'],
  }
  songs = results['details']['fad_tagger']['per_song']
  assert songs['low.wav'] and songs['high.flac'] and songs['silent.wav']
  assert songs['short.wav'] is None
  assert 'broken.wav (' in err and 'left out: short.wav' in err
  assert 'generated has 9 embeddings for 64 dimensions: too few' in out
  assert results['fadinf_tagger'] is None
  assert '10 clips or more' in results['details']['fadinf_tagger']['remarks'][0]


def test_clips_are_paired_by_name(evaluate, folders, tmp_path):
  clips = tmp_path / 'clips'
  clips.mkdir()
  for name, k in (('3.flac', 3), ('5.flac', 5), ('extra.flac', 9)):
    soundfile.write(clips / name, tone(k), RATE)
  code, results, out, err = evaluate(
    reference=folders / 'plain', generated=clips, metrics='kld'
  )
  assert code == 0
  facts = results['details']['kld_tagger_family']
  assert facts['n'] == 2 and facts['per_song'].keys() == {'3.flac', '5.flac'}
  assert results['kld_tagger_family'] == pytest.approx(0, abs=0.01)
  assert facts['without_reference'] == ['extra.flac']
  assert len(facts['without_generated']) == 22
  assert facts['direction'] == 'reference_to_generated'
  assert 'have no reference of their name: extra.flac' in err
  assert 'accuracy of the classifier on held-out clips: plain' in out
  for name in ('3.flac', '5.flac'):
    (clips / name).unlink()
  code, *_, err = evaluate(
    reference=folders / 'plain', generated=clips, metrics='kld'
  )
  assert code == 2 and 'missing are 0.wav, 1.wav' in err


def test_prompts_are_scored_by_classifiers(evaluate, folders, tmp_path):
  clips = tmp_path / 'clips'
  clips.mkdir()
  for k in range(4):
    soundfile.write(clips / f'{k}.wav', tone(k), RATE)
  rows = [f'{k}.wav,{PROMPTS[k % 2]}' for k in range(3)]
  (clips / 'captions.csv').write_text('path,caption\n' + '\n'.join(rows))
  code, results, _, err = evaluate(generated=clips, metrics='text_score')
  assert code == 0, err
  facts = results['details']['text_score_tagger_style']
  assert facts['n'] == 3 and facts['without_prompt'] == ['3.wav']
  assert 0 <= results['text_score_tagger_tempo'] <= 1
  # Of two prompts one states slow, the other fast.
  facts = results['details']['text_score_tagger']
  assert facts['n'] == 3 and set(facts['per_song']) == {
    f'{k}.wav' for k in range(3)
  }
  assert results['text_score_above_mismatched_tagger'] == pytest.approx(
    results['text_score_tagger'] - facts['mismatched']
  )


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    ({'metrics': 'fid'}, "unknown measure 'fid': choose of fad, kad"),
    ({'metrics': 'mcc'}, 'no clip of'),
    ({'metrics': 'text_score'}, 'no clip of'),
    ({'generated': '/nowhere'}, '/nowhere'),
    ({'embedders': 'vggish'}, '--vggish=FILE'),
    ({'vggish': '/nowhere.npz'}, 'there is no such file'),
    ({'metrics': 'codec', 'bundle': '/nowhere'}, 'is no bundle'),
    ({'metrics': 'attribution'}, 'attribution needs 2 or more'),
    ({'metrics': 'fingerprint'}, 'give --training=DIR'),
    ({'reference': '/nowhere.npz'}, 'there is no such file'),
    ({'save_statistics': 'x.json'}, 'must end in .npz'),
  ],
)
def test_a_mistaken_evaluation_is_one_line(evaluate, folders, flags, words):
  arguments = {
    'reference': folders / 'plain',
    'generated': folders / 'noisy',
    'metrics': 'fad',
  } | flags
  code, _, out, err = evaluate(**arguments)
  assert code == 2 and out == ''
  last = err.strip().splitlines()[-1]
  assert last.startswith('error:') and words in last


def test_a_report_of_two_folders_needs_no_bundle(call, folders, tmp_path):
  out = tmp_path / 'card'
  for name in ('plain', 'noisy'):
    (tmp_path / name).mkdir()
    for k in range(4):
      (tmp_path / name / f'{k}.wav').symlink_to(folders / name / f'{k}.wav')
  flags = (
    f'--reference={tmp_path / "plain"}',
    f'--generated={tmp_path / "noisy"}',
    f'--report={out}',
  )
  code, printed, err = call('evaluate', *flags)
  assert code == 0, err
  assert 'fad_tagger' in printed and 'kld_tagger_family' in printed
  assert '1/2, reference, tagger: ' in err and '2/2, clips of the page' in err
  record = json.loads((out / 'report.json').read_text())
  assert record['fad_tagger'] > 0
  assert set(record['left_out']) >= {'mcc', 'text_score', 'codec'}
  page = (out / 'report.html').read_text()
  assert page.count('data:audio/flac') == 8, 'four pairs'
  assert 'FAD of each song, tagger' in page and '4 : 4 clips' in page
  assert sorted(p.name for p in out.iterdir()) == ['report.html', 'report.json']
  (out / 'report.html').write_text('mine')
  code, _, err = call('evaluate', *flags, '--metrics=fad')
  assert code == 2 and "report.html' would be replaced" in err
  code, *_ = call('evaluate', *flags, '--metrics=fad', '--overwrite')
  assert code == 0
  assert 'kad_tagger' not in json.loads((out / 'report.json').read_text())


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    ({'generated': '{plain}'}, '--reference is missing'),
    ({'bundle': '/nowhere', 'generated': '{plain}'}, '--reference is missing'),
    ({'bundle': '/nowhere'}, 'is no bundle'),
    ({'bundle': '/nowhere', 'clips': 0}, '--clips'),
    ({'compare': '/nowhere', 'reference': '{plain}'}, 'is no bundle'),
    (
      {'compare': '/x', 'reference': '{plain}', 'generated': '{plain}'},
      'leave --generated out',
    ),
    ({'report': '', 'clips': 3}, '--clips is for --report'),
    ({'report': '', 'compare': '/nowhere'}, '--compare is for --report'),
  ],
)
def test_a_mistaken_report_is_one_line(call, folders, tmp_path, flags, words):
  given = {'report': tmp_path / 'card'} | flags
  if not given['report']:
    del given['report']
  code, out, err = call(
    'evaluate',
    *(
      f'--{name}={str(value).format(plain=folders / "plain")}'
      for name, value in given.items()
    ),
  )
  assert code == 2 and out == ''
  last = err.strip().splitlines()[-1]
  assert last.startswith('error:') and words in last
  assert not (tmp_path / 'card').exists()


def test_a_report_without_captions_says_what_to_write(
  bundle, call, folders, tmp_path
):
  code, _, err = call(
    'evaluate',
    f'--bundle={bundle[0]}',
    f'--reference={folders / "plain"}',
    f'--report={tmp_path / "card"}',
  )
  assert code == 2 and not (tmp_path / 'card').exists()
  assert 'has a caption to make music of: write captions.csv' in err


@pytest.mark.soak
def test_a_bundle_alone_gets_a_report_that_goes_on(bundle, call, tmp_path):
  flags = (
    f'--bundle={bundle[0]}',
    f'--compare={bundle[0]}',
    f'--report={tmp_path}',
    '--clips=3',
    '--seconds=5',
    '--metrics=kad,kld,mcc,text_score,codec',
    '--embedders=tagger',
  )
  code, out, err = call('evaluate', *flags)
  assert code == 0, err
  record = json.loads((tmp_path / 'report.json').read_text())
  found = record['differences']['codec_si_sdr']
  assert found['difference'] == 0 and found['interval'] == [0, 0]
  assert found['n'] == 3
  assert record['mcc_mulan'] == record['compare']['mcc_mulan']
  assert len(list((tmp_path / 'generated').glob('*.wav'))) == 3
  assert 'generating with' in err and 'held-out music' in err
  again, out_again, err = call('evaluate', *flags)
  assert again == 0 and out_again == out
  assert 'semantic:' not in err, 'nothing is generated twice'


def test_one_embedding_is_no_set(evaluate, folders, tmp_path):
  clips = tmp_path / 'one'
  clips.mkdir()
  soundfile.write(clips / 'a.wav', tone(1, 1.2), RATE)
  code, *_, err = evaluate(
    reference=folders / 'plain', generated=clips, metrics='fad'
  )
  assert code == 2 and 'needs 2 or more' in err


def test_a_bundle_gives_its_embedders_and_measures(
  bundle, evaluate, music_folder, tmp_path
):
  training = tmp_path / 'training'
  clips = tmp_path / 'clips'
  for folder, first in ((training, 0), (clips, 3)):
    folder.mkdir()
    for k in range(first, first + 4):
      soundfile.write(folder / f'{k}.wav', tone(k, 10.5), RATE)
  rows = [f'{k}.wav,{PROMPTS[k % 2]}' for k in range(3, 7)]
  (clips / 'captions.csv').write_text('path,caption\n' + '\n'.join(rows))
  code, results, _, err = evaluate(
    bundle=bundle[0],
    reference=training,
    generated=clips,
    training=training,
    metrics='fad,mcc,codec,memorization,fingerprint',
    embedders='codec,mulan',
  )
  assert code == 0, err
  assert results['fad_codec'] > 0 and results['fad_mulan'] >= 0
  assert -1 <= results['mcc_mulan'] <= 1
  facts = results['details']['mcc_mulan']
  assert facts['n'] == 4 and facts['prompts'] == 2
  assert results['mcc_above_mismatched_mulan'] == pytest.approx(
    results['mcc_mulan'] - facts['mismatched']
  )
  assert results['codec_si_sdr'] < 20
  assert 1 <= results['codec_perplexity_1'] <= 16
  assert 'codec_perplexity_4' in results and 'codec_stft' in results
  assert np.isfinite(results['codec_loudest_bins'])
  assert 0 <= results['memorization_exact'] <= 1
  assert 0 <= results['memorization_approximate'] <= 1
  copied = results['details']['fingerprint_duplicates']
  assert copied['per_song']['3.wav'] == 0, 'it is among the training clips'


@pytest.fixture(scope='module')
def ablation(bundle, tokens, write_stage, tmp_path_factory):
  """The bundle with a coarse stage that reads no semantic tokens."""
  folder = tmp_path_factory.mktemp('ablation')
  contract = (tokens[0] / 'contract.json').read_text()
  write_stage(
    folder / 'coarse', 'coarse', contract, **{'layout.semantic': False}
  )
  opened = bundles.read(bundle[0])
  weights = {stage: opened.weights(stage) for stage in opened.stages}
  weights['coarse'] = networks.read(folder / 'coarse', 'coarse')
  vocabulary = (bundle[0] / bundles.VOCABULARY).read_text()
  return bundles.write(
    folder / 'bundle',
    weights,
    opened.contract,
    vocabulary,
    opened.settings,
    opened.versions,
  ).path


@pytest.mark.soak
def test_stages_are_told_apart(bundle, ablation, evaluate, tmp_path):
  clips = tmp_path / 'clips'
  clips.mkdir()
  for k in range(4):
    soundfile.write(clips / f'{k}.wav', tone(k, 1.2), RATE)
  rows = [f'{k}.wav,{PROMPTS[k % 2]}' for k in range(3)]
  (clips / 'captions.csv').write_text('path,caption\n' + '\n'.join(rows))
  given = {'reference': clips, 'metrics': 'attribution', 'embedders': 'tagger'}
  code, results, out, err = evaluate(
    bundle=bundle[0], ablation=ablation, seconds=1, **given
  )
  assert code == 0, err
  facts = results['details']['attribution']
  assert facts['n'] == 3 and facts['without_caption'] == ['3.wav']
  assert facts['rows'] == [
    *('codec', 'fine', 'coarse', 'semantic', 'text', 'no_semantic')
  ]
  assert 'lower 95 % bound' in facts['rule'] and facts['seed'] == 0
  assert facts['weakest'] in (None, *facts['rows'])
  assert len(facts['bundle_sha256']) == len(facts['ablation_sha256']) == 64
  for row in facts['rows']:
    for key in ('fad_tagger', 'kad_tagger', 'clip_kad_tagger'):
      assert isinstance(results[f'attribution_{row}_{key}'], float)
    assert results[f'attribution_{row}_kld_tagger_family'] > -1e-3
    assert 0 <= results[f'attribution_{row}_agreement_tagger_tempo'] <= 1
    low, high = results['details'][f'attribution_cost_{row}_kad_tagger'][
      'interval'
    ]
    assert low <= results[f'attribution_cost_{row}_kad_tagger'] <= high
  fine = (results[f'attribution_{row}_fad_tagger'] for row in ('fine', 'codec'))
  assert results['attribution_cost_fine_fad_tagger'] == pytest.approx(
    next(fine) - next(fine)
  )
  assert out.startswith('attribution of 3 clips\nquality: ')
  assert re.search(r'^no_semantic  ', out, re.MULTILINE)
  assert 'have no caption and are left out: 3.wav' in err
  for flags, words in (
    ({'bundle': ablation}, 'give it as --ablation'),
    ({'bundle': bundle[0], 'ablation': bundle[0]}, 'reads semantic tokens'),
    ({'bundle': bundle[0], 'seconds': 0.3}, 'the stages see 0.4 s at once'),
  ):
    code, *_, err = evaluate(**given, **flags)
    assert code == 2 and words in err


def test_a_cascade_without_semantic_tokens_makes_none(ablation):
  music = MusicLM.load(ablation).generate(PROMPTS[0], seconds=0.5)
  assert set(music.tokens) == {'mulan', 'acoustic'}
  assert music.waveform.shape == (12_000,)


@pytest.mark.soak
def test_musiccaps_is_one_command(bundle, evaluate, tmp_path, monkeypatch):
  """A bundle makes what is missing, and nothing twice."""
  from musiclm_jax.evaluation import held_out, musiccaps

  monkeypatch.setattr(musiccaps, 'SECONDS', 2.0)
  monkeypatch.setattr(held_out, 'GENERATE_BATCH', 2)
  ytids = [f'{k:011}' for k in range(4)]
  table, clips = tmp_path / 'musiccaps.csv', tmp_path / 'clips'
  rows = [
    f'{y},30,40,{PROMPTS[k % 2]} {k},True,True' for k, y in enumerate(ytids)
  ]
  head = 'ytid,start_s,end_s,caption,is_balanced_subset,is_audioset_eval'
  table.write_text('\n'.join([head, *rows]))
  clips.mkdir()
  for k, ytid in enumerate(ytids[:3]):
    soundfile.write(clips / f'{ytid}_30.wav', tone(k, 2.5), RATE)
  flags = {'musiccaps': table, 'reference': clips, 'embedders': 'tagger'}
  code, results, out, err = evaluate(**flags, bundle=bundle[0])
  assert code == 0, err
  made = tmp_path / 'results.clips_all_0'
  assert {p.stem for p in made.glob('*.wav')} == set(ytids[:3])
  assert not list(made.glob('.musiclm_jax-*.kept'))
  assert results['details']['kld_tagger_family']['n'] == 3
  assert results['details']['mcc_mulan']['prompts'] == 3
  found = results['details']['musiccaps']
  assert found['clips_found']['all'] == {'n': 3, 'of': 4}
  assert 'MusicCaps: 3 clips found of 4' in out
  assert 'not comparable: other embedder' in out
  times = {p: p.stat().st_mtime_ns for p in made.glob('*.wav')}
  (made / f'{ytids[2]}.wav').unlink()
  again = evaluate(**flags, bundle=bundle[0])
  assert again[1]['fad_tagger'] == results['fad_tagger']
  kept = [p for p in times if p.stat().st_mtime_ns == times[p]]
  assert {p.stem for p in kept} == set(ytids[:2]), 'they were not made again'


@pytest.mark.soak
def test_training_prompts_are_continued_by_the_semantic_model(
  bundle, evaluate, tmp_path
):
  """Prompts longer than its crop too; a remark says so."""
  folders = {name: tmp_path / name for name in ('training', 'reference')}
  for first, folder in enumerate(folders.values()):
    folder.mkdir()
    for k in range(3):
      seconds = 7.5 if k else 15.1
      soundfile.write(folder / f'{k}.wav', tone(10 * first + k, seconds), RATE)
  code, results, _, err = evaluate(
    bundle=bundle[0], metrics='continuation', **folders
  )
  assert code == 0, err
  facts = results['details']['continuation_approximate_t50']
  assert facts['n']['training'] == 3 and facts['n']['mismatched'] == 6
  assert 0 <= results['continuation_exact_t0'] <= 1
  assert 0 <= results['continuation_approximate_t50'] <= 1
  told = ' '.join(facts['remarks'])
  assert 'reads 50 tokens at once' in told and '500 are advised' in told
  assert results['continuation_exact_t250'] is None, 'one reference is no pair'
  code, *_, err = evaluate(
    bundle=bundle[0], metrics='continuation', reference=folders['reference']
  )
  assert code == 2 and 'give --training=DIR' in err
