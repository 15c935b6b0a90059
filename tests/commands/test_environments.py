"""Every command in environments and with flags that a user can mend.

Each row ends in one line and exit code 2, without a traceback, before any
work. The commands run in this process, but for what needs one of its own.
"""

import concurrent.futures.process
import errno
import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
import setup_lists

from musiclm_jax import __version__, cli
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts import bounds
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.launch import devices, trouble
from musiclm_jax.launch.environment import CACHE_FOLDER, open_cache

ROOT = Path(__file__).parents[2]
CONFIG = f'--config={ROOT}/configs/semantic.py:tiny'
# Command -> flags of a call that could do work.
CALLS = {
  'train': (CONFIG, '--workdir={tmp}/w', '--tokens={tmp}/none'),
  'tokenize': (
    '--workdirs={tmp}',
    '--source=audio_folder:{tmp}',
    '--out={tmp}/o',
  ),
  'bundle': ('--workdirs={tmp}', '--out={tmp}/b'),
  'generate': ('--bundle={tmp}', '--text=piano', '--out={tmp}/x.wav'),
  'experiments.tiny_cascade.examine': ('--demo={tmp}',),
  'search': ('--bundle={tmp}', '--index={tmp}', '--text=piano'),
  'prepare': ('--out={tmp}/corpus',),
  'finetune': ('--bundle={tmp}', '--songs={tmp}', '--out={tmp}/o'),
  'rehearse': (CONFIG,),
  'preflight': (),
  'experiments.tiny_cascade.run': ('--out={tmp}/demo',),
}
INTEGERS = ('-1', '1e3', 'nan', '', 'abc', str(2**70))
FLOATS = ('-1', 'nan', 'inf', '1e12', '', 'abc')
NUMBERS = {
  'tokenize': {
    'crop_seconds': FLOATS,
    'hop_seconds': FLOATS,
    'min_dbfs': ('1', 'nan', '-inf'),
    'max_pieces': INTEGERS,
    'batch_size': INTEGERS,
  },
  'bundle': {'guidance': FLOATS, 'guidance_fine': FLOATS},
  'generate': {
    'seed': INTEGERS,
    'seconds': FLOATS,
    'guidance': FLOATS,
    'guidance_coarse': FLOATS,
    'temperature_semantic': FLOATS,
    'temperature_coarse': FLOATS,
    'temperature_fine': FLOATS,
    'top_k_coarse': ('0', *INTEGERS),
    'top_p_fine': ('2', *FLOATS),
    'mulan_levels': INTEGERS,
  },
  'experiments.tiny_cascade.examine': {'seed': INTEGERS},
  'search': {'top': INTEGERS[:-1]},
  'prepare': {'pieces': INTEGERS, 'seed': INTEGERS, 'processes': INTEGERS},
  'finetune': {
    'steps': ('0', *INTEGERS),
    'minutes': ('0', *FLOATS),
    'learning_rate_scale': ('0', *FLOATS),
    'clips': ('1', *INTEGERS),
    'seconds': ('0', *FLOATS),
    'seed': INTEGERS,
  },
  'preflight': {'seconds': INTEGERS},
  'experiments.tiny_cascade.run': {
    'pieces': INTEGERS,
    'seed': INTEGERS,
    'steps': INTEGERS,
  },
  **{
    command: {
      'config.seed': INTEGERS,
      'config.data.batch_size': ('0', *INTEGERS),
      'config.data.crop_seconds': ('0', *FLOATS),
      'config.schedule.total_steps': ('0', *INTEGERS),
      'config.training.accumulation': ('0', *INTEGERS),
      'config.mesh.tensor': ('0', '-1'),
      'config.optimizer.lm.learning_rate': ('-1', 'nan', 'inf'),
      'config.model.dropout_rate': ('-1', '2', 'nan'),
      'config.model.num_layers': ('0', 'abc', '1.5', 'None', '[1]'),
      'config.model.dtype': ('float99', 'int32', ''),
      'config.model': ('5',),
      'config.model.num_layers.x': ('1',),
      'config.layout.melody': ('maybe',),
      'config.': ('1',),
    }
    for command in ('train', 'rehearse')
  },
}
FLAGS = [
  ('generate', ('--seed=1', '--seed=1'), '--seed is given twice'),
  ('search', ('--index=x',), '--index is given twice'),
  ('prepare', ('--outt=x',), "Unknown command line flag 'outt'"),
  (
    'experiments.tiny_cascade.run',
    ('spare',),
    "unexpected argument 'spare'",
  ),
  (
    'experiments.tiny_cascade.examine',
    ('--only_features=perhaps',),
    'perhaps',
  ),
  ('tokenize', ('--splits=',), '--splits=: name one or more'),
  ('tokenize', ('--splits=train,train',), 'each once'),
  ('train', ('--config.stage=foo',), "unknown stage 'foo'"),
  ('train', ('--profile=5:2',), 'FIRST:LAST'),
  ('generate', ('--text=slow \udcff',), r"'slow \xff' holds bytes"),
  ('generate', ('--text=\x1b\u200b ',), '--text is empty'),
  ('generate', ('--text=\ud800',), r'\ud800'),
]
CONFIG_FILES = {
  'def get_config(:': 'SyntaxError',
  'import nowhere_at_all': ":1 ModuleNotFoundError: No module named 'nowhere",
  'a = 1': 'has no function get_config',
  'def get_config(size): return 1': 'missing 1 required',
  'def get_config(): return 1': 'returned int, no ConfigDict',
  'raise SystemExit(0)': 'SystemExit',
  'from ml_collections import ConfigDict as C\n'
  'def get_config(): return C({"stage": "semantic"})': 'the config has no seed',
}


def too_large():
  with pytest.raises(MemoryError) as caught:
    np.zeros(2**60, np.int8)
  return caught.value


def assert_refused(outcome, words=''):
  code, out, err = outcome
  assert (code, out) == (cli.USAGE, ''), outcome
  assert err.startswith('error: ') and err.count('\n') == 1, err
  assert words in err, err


@pytest.mark.parametrize(
  ('command', 'flag'),
  [(command, flag) for command in NUMBERS for flag in NUMBERS[command]],
)
def test_a_number_that_is_none_or_out_of_bounds_is_refused(
  command, flag, call, tmp_path
):
  given = [f for f in CALLS[command] if not f.startswith(f'--{flag}=')]
  for value in NUMBERS[command][flag]:
    outcome = call(command, *given, f'--{flag}={value}')
    assert_refused(outcome, flag.rpartition('.')[2])
  assert list(tmp_path.iterdir()) == [], 'nothing is left behind'


@pytest.mark.parametrize(('command', 'added', 'words'), FLAGS)
def test_a_mistaken_flag_is_refused_in_words(command, added, words, call):
  given = [
    flag
    for flag in CALLS[command]
    if not any(a.startswith('--text') for a in added)
    or not flag.startswith('--text')
  ]
  assert_refused(call(command, *given, *added), words)


def test_of_a_key_of_the_config_that_comes_twice_the_last_one_counts(call):
  given = ('--config.seed=-1', '--config.seed=3', '--json=no/such.json')
  assert_refused(
    call('rehearse', CONFIG, *given), 'the folder no does not exist'
  )


def test_a_rehearsal_of_generation_without_a_slice_is_refused(call):
  assert_refused(
    call('rehearse', CONFIG, '--generation'), '--generation needs a slice'
  )
  assert_refused(
    call('rehearse', CONFIG, '--weights=float32'),
    '--weights is of making music: give --generation too',
  )


@pytest.mark.parametrize('text', CONFIG_FILES)
def test_a_config_file_that_is_none_is_refused_with_its_line(
  text, call, tmp_path
):
  (tmp_path / 'mine.py').write_text(text)
  outcome = call('train', '--config={tmp}/mine.py', '--workdir={tmp}/w')
  assert_refused(outcome, CONFIG_FILES[text])
  assert 'mine.py' in outcome[2]


@pytest.mark.parametrize(
  'config', sorted((ROOT / 'configs').glob('*.py')), ids=lambda p: p.stem
)
def test_every_number_of_a_config_has_bounds(config):
  module = runpy.run_path(str(config))
  for size in module['SIZES']:
    given = module['get_config'](size).to_dict()
    bounds.check_config(given)
    for key, value in list(bounds._values(given)):
      if not isinstance(value, int | float) or isinstance(value, bool):
        continue
      *sections, last = key.split('.')
      assert last in bounds.CONFIG, f'{key} has no bounds'
      node = given
      for section in sections:
        node = node[section]
      for bad in (-1, float('nan'), float('inf'), 2**70):
        node[last], good = bad, node[last]
        with pytest.raises(UsageError, match=f'--config.{key}='):
          bounds.check_config(given)
        node[last] = good


@pytest.mark.parametrize('command', sorted(CALLS.keys() - {'prepare'}))
def test_a_platform_that_is_not_here_is_said_before_the_work(
  command, call, monkeypatch, tmp_path
):
  """`prepare` needs none; what jax itself says, the next test sees."""
  reason = (
    "Unable to initialize backend 'cuda': nothing. (set JAX_PLATFORMS='')"
  )

  def no_devices():
    raise RuntimeError(reason)

  def ask(*_):
    raise UsageError('jax cannot start here: JAX_PLATFORMS=cuda')

  monkeypatch.setattr(jax, 'devices', no_devices)
  monkeypatch.setattr(devices, 'ask', ask)
  bundle = mock.Mock(settings=SamplingConfig(), stages=())
  bundle.contract.streams = {'mulan': mock.Mock(num_levels=12)}
  monkeypatch.setattr('musiclm_jax.cascade.bundle.read', lambda _: bundle)
  monkeypatch.setattr('musiclm_jax.data.audio_folder.AudioFolder', mock.Mock())
  os.environ['JAX_PLATFORMS'] = 'cuda'
  before = list(tmp_path.iterdir())
  assert_refused(call(command, *CALLS[command]), 'JAX_PLATFORMS=cuda')
  assert list(tmp_path.iterdir()) == before


def test_jax_says_which_platform_is_missing(run_command):
  with mock.patch.dict(os.environ, JAX_PLATFORMS='cuda'):
    done = run_command('preflight')
  assert_refused(
    (done.returncode, done.stdout, done.stderr), '=cuda: jax finds'
  )
  assert 'musiclm_jax[gpu]' in done.stderr


@pytest.mark.parametrize(
  ('error', 'words'),
  [
    (MemoryError(), 'not enough memory'),
    (too_large(), 'Unable to allocate'),
    (
      jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory: 9 GB.\nx'),
      'not enough memory (RESOURCE_EXHAUSTED: Out of memory: 9 GB.): give it',
    ),
    (OSError(errno.EMFILE, 'Too many open files', 'a'), 'a: let the process'),
    (OSError(errno.EAGAIN, 'No'), 'ulimit -u'),
    (OSError(errno.ENOSPC, 'Full', 'two\n  \x1b[31m.wav'), r'two\n  \x1b[31m.'),
    (OSError(errno.EACCES, 'Denied', b'\xff'), r'Denied: \xff'),
    (BrokenPipeError(errno.EPIPE, 'Broken pipe'), 'Broken pipe'),
    (RuntimeError("can't start new thread"), 'ulimit -u'),
    (ModuleNotFoundError('no', name='sklearn.svm'), "'musiclm_jax[demo]'"),
    (ModuleNotFoundError('no', name='grain'), "'musiclm_jax[train]'"),
    (ModuleNotFoundError('no', name='flax.linen'), 'flax is not installed'),
    (concurrent.futures.process.BrokenProcessPool(), 'fewer processes'),
    (UsageError('a  b\nc'), r'a  b\nc'),
  ],
)
def test_what_the_machine_refuses_is_one_line(error, words, capsys):
  def main():
    raise error

  assert cli.exit_code(main, ['command']) == cli.USAGE
  err = capsys.readouterr().err
  assert words in err and err.count('\n') == 1


@pytest.mark.parametrize(
  'defect',
  [
    AssertionError(),
    ValueError('NaN to integer'),
    ModuleNotFoundError('no', name='musiclm_jax.nothing'),
    jax.errors.JaxRuntimeError('INTERNAL: a bug'),
    KeyError('memory'),
  ],
)
def test_a_defect_of_ours_keeps_its_traceback(defect):
  def main():
    raise defect

  with pytest.raises(type(defect)):
    cli.exit_code(main, ['command'])


def test_the_extras_of_missing_packages_are_those_of_setup():
  setup = setup_lists.asked()
  for extra, modules in trouble.EXTRAS.items():
    named = {setup_lists.DISTRIBUTIONS.get(m, m) for m in modules}
    assert {setup_lists.name_of(name) for name in named} == setup[extra]


def test_a_folder_that_is_gone_under_the_command_is_said(call, tmp_path):
  gone = tmp_path / 'gone'
  gone.mkdir()
  before = os.getcwd()
  os.chdir(gone)
  gone.rmdir()
  try:
    arguments = ('--bundle={tmp}', '--text=piano', '--out=x.wav')
    outcome = call('generate', *arguments)
  finally:
    os.chdir(before)
  assert_refused(outcome, 'the working directory does not exist any more')


@pytest.mark.parametrize(
  ('environment', 'words'),
  [
    ({}, 'no home folder'),
    (
      {CACHE_FOLDER: '/proc/nothing'},
      "cache '/proc/nothing' cannot",
    ),
    ({CACHE_FOLDER: ''}, None),
    ({CACHE_FOLDER: 'gs://bucket/xla'}, None),
  ],
)
def test_without_a_home_or_a_cache_one_line_is_said_and_the_work_goes_on(
  environment, words, monkeypatch, tmp_path
):
  def no_home():
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.setattr(Path, 'home', no_home)
  monkeypatch.chdir(tmp_path)
  line = open_cache(environment)
  assert words in line if words else line is None
  assert list(tmp_path.iterdir()) == []


def shell(line, **options):
  """Runs a shell line in which $COMMAND is a command without its name."""
  environment = {'COMMAND': f'{sys.executable} -m musiclm_jax'}
  environment |= os.environ | {'PYTHONPATH': str(ROOT)}
  for name in ('LC_ALL', 'PYTHONIOENCODING', 'PYTHONUNBUFFERED'):
    environment[name] = options.pop(name, '')
  return subprocess.run(
    ['bash', '-c', line],
    **{'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE} | options,
    cwd=ROOT,
    env=environment,
    text=True,
    timeout=60,
  )


@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_an_output_that_nobody_reads_ends_the_command_quietly(unbuffered):
  """As after `| head`, where Python would complain at its very end."""
  reader, writer = os.pipe()
  os.close(reader)
  with open(writer, 'wb') as nobody:
    options = {'stdout': nobody, 'PYTHONUNBUFFERED': unbuffered}
    done = shell('$COMMAND.search --help', **options)
    assert (done.returncode, done.stderr) == (cli.CLOSED, '')
    done = shell('$COMMAND.search --top=0', stderr=nobody)
    assert (done.returncode, done.stdout) == (cli.USAGE, '')


def test_a_stream_that_is_closed_is_not_given_to_a_file():
  opened = 'import musiclm_jax.contracts.terminal as s; s.open_streams(); '
  opened += 'f = open("/dev/null"); print("x"); raise SystemExit(f.fileno())'
  done = shell(f"{sys.executable} -c '{opened}' <&- >&- 2>&-")
  assert done.returncode == 3
  done = shell('$COMMAND.search <&- >&-')
  assert done.returncode == 2 and '--index is missing' in done.stderr


def test_a_terminal_without_utf_8_shows_escapes():
  done = shell(
    '$COMMAND.generate --bundle=b --text=p --out=señal-🎵.mp3',
    LC_ALL='C',
    PYTHONIOENCODING='ascii',
  )
  assert_refused(
    (done.returncode, done.stdout, done.stderr), r'se\xf1al-\U0001'
  )


@pytest.mark.parametrize('command', sorted(CALLS))
def test_help_is_no_mistake(command, call):
  code, out, err = call(command, '--help')
  assert code == 0 and err == '' and '--' in out


@pytest.mark.parametrize('command', ['generate', 'train'])
def test_a_command_says_its_version_and_does_nothing_else(command, call):
  code, out, err = call(command, '--version')
  assert code == 0 and err == ''
  assert out.startswith(f'musiclm_jax {__version__} (jax {jax.__version__}')
