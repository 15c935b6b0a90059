"""The tiny cascade continues, starts over, fails and reports as it says."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.tiny_cascade import plan, process, run_folder, scheduler, slots
from experiments.tiny_cascade.slots import makespan, next_stage
from experiments.tiny_cascade.status_line import ProgressLine
from musiclm_jax.cascade import source_code
from musiclm_jax.contracts import ownership
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training.speed import duration

ROOT = Path(__file__).parents[3]
NAMES = (
  'prepare',
  'soundstream',
  'mulan',
  'mulan_rvq',
  'w2v_bert',
  'kmeans',
  'tokenize',
  'coarse',
  'semantic',
  'fine',
  'features',
  'bundle',
  'generate',
  'evaluate',
)


class Script(plan.CascadeStage):
  """A stage that is a line of Python instead of a module."""

  def program(self):
    return [sys.executable, '-c', *self.command]


ANY = ownership.Kind('any', ('runs', 'old'), lambda folder: True)


def script(out, code, name='prepare', config=None):
  return Script(name, (code,), (), out / name, (), 1.0, False, config, ANY)


def stage_of(
  name, needs=(), seconds=1.0, shares=False, code='pass', out=Path()
):
  return Script(name, (code,), needs, out / name, (), seconds, shares)


def line():
  return ProgressLine([stage_of(name) for name in NAMES])


def appending(out):
  """Makes its output folder and adds a line to a file each time it runs."""
  return script(
    out,
    f'import os; os.makedirs({str(out / "prepare")!r}, exist_ok=True); '
    f'open({str(out / "prepare" / "runs")!r}, "a").write("x")',
  )


def test_a_finished_stage_is_not_run_again(tmp_path):
  stage = appending(tmp_path)
  first = scheduler.run_stage(stage, 'a', tmp_path, line())
  second = scheduler.run_stage(stage, 'a', tmp_path, line())
  assert first.finished and second == first
  assert (tmp_path / 'prepare' / 'runs').read_text() == 'x'


def test_other_inputs_start_a_stage_over(tmp_path):
  stage = appending(tmp_path)
  scheduler.run_stage(stage, 'a', tmp_path, line())
  (tmp_path / 'prepare' / 'old').touch()
  scheduler.run_stage(stage, 'b', tmp_path, line())
  assert not (tmp_path / 'prepare' / 'old').exists()
  assert (tmp_path / 'prepare' / 'runs').read_text() == 'x'


def populated(folder):
  """A project of a user's, with names that the demo would write."""
  for name in (
    *('corpus/take.wav', 'tokens/contract.json', 'bundle/bundle.json'),
    *('logs/prepare.log', 'stamps/prepare.json', 'report.html'),
  ):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text('mine')
  return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_demo_takes_no_folder_of_a_users(tmp_path, overwrite):
  before = populated(tmp_path)
  with (
    pytest.raises(UsageError, match=r"no demo.*'bundle/bundle\.json'"),
    run_folder.hold(tmp_path, {'seed': 0}, overwrite),
  ):
    pass
  assert before == {p: p.read_bytes() for p in before}
  assert len(before) == sum(p.is_file() for p in tmp_path.rglob('*'))


def test_another_seed_replaces_a_demo_only_where_it_is_told(tmp_path):
  with run_folder.hold(tmp_path, {'seed': 0, 'pieces': 20}, False):
    pass
  for metadata in ({'seed': 1, 'pieces': 20}, {'seed': 0, 'pieces': 21}):
    with (
      pytest.raises(UsageError, match='--overwrite'),
      run_folder.hold(tmp_path, metadata, False),
    ):
      pass
  with (
    run_folder.hold(tmp_path, {'seed': 1, 'pieces': 20}, True),
    pytest.raises(UsageError, match='another run is running a demo'),
    run_folder.hold(tmp_path, {'seed': 1, 'pieces': 20}, False),
  ):
    pass


def test_what_a_user_put_into_a_stages_output_is_named_before_the_work(
  tmp_path,
):
  stages = plan.CascadePlan(tmp_path, 0, 'tiny', 20).stages()
  names = [stage.name for stage in stages]
  for stage in stages[:3]:
    ownership.begin(stage.output, stage.kind)
  run_folder.check(stages, dict.fromkeys(names, 'a'), tmp_path, False)
  for path in (
    *('corpus/notes.txt', 'workdirs/mulan/thesis.tex', 'samples/sample_0.wav'),
    *('bundle/song.wav', 'report.html', 'tokens/train/plan.json'),
  ):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('mine')
    with pytest.raises(UsageError, match=file.name):
      run_folder.check(stages, dict.fromkeys(names, 'a'), tmp_path, False)
    assert file.read_text() == 'mine'
    file.unlink()


def test_an_interrupted_stage_keeps_what_it_has(tmp_path):
  stage = appending(tmp_path)
  (tmp_path / 'prepare').mkdir()
  (tmp_path / 'prepare' / 'half').touch()
  begun = process.Stamp('a', seconds=5.0, peak_bytes=1)
  begun.write(tmp_path / 'stamps' / 'prepare.json')
  stamp = scheduler.run_stage(stage, 'a', tmp_path, line())
  assert (tmp_path / 'prepare' / 'half').exists()
  assert stamp.finished and stamp.seconds > 5.0


def test_lost_output_is_made_again(tmp_path):
  stage = appending(tmp_path)
  scheduler.run_stage(stage, 'a', tmp_path, line())
  (tmp_path / 'prepare' / 'runs').unlink()
  (tmp_path / 'prepare').rmdir()
  scheduler.run_stage(stage, 'a', tmp_path, line())
  assert (tmp_path / 'prepare' / 'runs').exists()


def test_a_failed_stage_shows_its_last_lines_and_is_not_finished(
  tmp_path, capsys
):
  stage = script(tmp_path, 'print("error: the disk is full"); exit(2)')
  with pytest.raises(
    UsageError, match=r"'prepare' ended with exit code 2.*log"
  ):
    scheduler.run_stage(stage, 'a', tmp_path, line())
  assert 'error: the disk is full' in capsys.readouterr().out
  stamp = process.Stamp.read(tmp_path / 'stamps' / 'prepare.json')
  assert not stamp.finished and stamp.seconds > 0


def test_memory_of_children_is_summed(tmp_path):
  hold = 'x = bytearray(80_000_000); import time; time.sleep(2.5)'
  code = (
    'import subprocess, sys; '
    f'p = [subprocess.Popen([sys.executable, "-c", {hold!r}]) '
    'for _ in range(2)]; [q.wait() for q in p]'
  )
  seen = []
  status, usage = process.run(
    [sys.executable, '-c', code],
    tmp_path / 'log',
    tmp_path / 'events',
    seen.append,
  )
  assert status == 0 and seen
  assert 160e6 < usage.peak_bytes < 500e6
  assert 2.5 <= usage.seconds < 60


def test_progress_comes_from_the_last_whole_event(tmp_path):
  events = tmp_path / 'events'
  assert process.progress(events) is None
  lines = [
    json.dumps({'stage': 'a', 'done': done, 'total': 8, 'unit': 'shards'})
    for done in (1, 6)
  ]
  events.write_text('\n'.join(lines) + '\n{"stage": "a", "do')
  assert process.progress(events) == 0.75
  events.write_text('{"done": 0, "total": 0}\n')
  assert process.progress(events) is None


def test_a_stage_writes_its_events_where_they_are_read(tmp_path):
  code = (
    'from musiclm_jax import cli; '
    'from musiclm_jax.contracts.progress import Meter; '
    "Meter('a', 4, 'pieces', cli.progress()).advance(3); "
    'from experiments import tiny_cascade'
  )
  events = tmp_path / 'logs' / 'events'
  for _ in range(2):
    status, _ = process.run(
      [sys.executable, '-c', code], tmp_path / 'log', events, lambda usage: None
    )
    assert status == 0, (tmp_path / 'log').read_text()
    assert process.progress(events) == 0.75
    assert len(events.read_text().splitlines()) == 2


def test_eta_follows_what_was_measured():
  seconds = {'prepare': 10.0, 'soundstream': 100.0, 'mulan': 50.0}
  shown = ProgressLine([stage_of(n, seconds=s) for n, s in seconds.items()])
  assert shown.remaining() == 160.0
  shown.done('prepare', 20.0)  # twice as slow as the table
  assert shown.remaining() == 300.0
  shown.show('soundstream', 30.0, 0.5, 0)
  assert shown.remaining() == 130.0
  assert duration(3725) == '1:02:05'


def test_the_line_shows_stages_progress_and_eta(capsys):
  shown = line()
  shown.show('mulan', 65.0, 0.5, int(2.5e9))
  shown.show('soundstream', 5.0, None, int(1e9))
  text = capsys.readouterr().out
  for word in ('[ 1/14]', 'mulan 50% 1:05', '2.5 GB', 'ETA'):
    assert word in text, text
  assert 'mulan 50% 1:05 + soundstream --% 0:05  3.5 GB' in text


FORK = (
  stage_of('prepare', (), 5.0),
  stage_of('soundstream', ('prepare',), 30.0, True),
  stage_of('w2v_bert', ('prepare',), 10.0, True),
  stage_of('kmeans', ('w2v_bert',), 10.0, True),
  stage_of('tokenize', ('soundstream', 'kmeans'), 7.0),
  stage_of('semantic', ('tokenize',), 1.0, True),
)


def test_stages_that_share_run_in_twos_and_others_alone():
  def following(done, running, slots=2):
    waiting = [s for s in FORK if s.name not in {*done, *running}]
    active = [s for s in FORK if s.name in running]
    stage = next_stage(waiting, done, active, slots)
    return stage and stage.name

  assert following((), ()) == 'prepare'
  assert following((), ('prepare',)) is None
  assert following(('prepare',), ('soundstream',)) == 'w2v_bert'
  assert following(('prepare',), ('soundstream',), slots=1) is None
  assert following(('prepare',), ('soundstream', 'w2v_bert')) is None
  done = ('prepare', 'w2v_bert', 'kmeans')
  assert following(done, ('soundstream',)) is None
  assert following((*done, 'soundstream'), ()) == 'tokenize'
  assert following((*done, 'soundstream'), ('tokenize',)) is None


@pytest.mark.parametrize('count', [1, 2, 3, 8])
def test_slots_are_equal_so_that_timing_decides_nothing(monkeypatch, count):
  monkeypatch.setattr(
    os, 'sched_getaffinity', lambda pid: set(range(count)), raising=False
  )
  found = slots.cores_of_slots()
  assert len(found) == min(count, 2)
  assert len({len(cores) for cores in found}) == 1
  assert len(set().union(*found)) == sum(len(cores) for cores in found)
  assert sum(len(cores) for cores in found) >= max(1, count - 1)


def test_the_eta_knows_what_runs_side_by_side():
  left = {stage.name: stage.expected_seconds for stage in FORK}
  assert makespan(FORK, left, (), 2) == 5 + 30 + 7 + 1
  assert makespan(FORK, left, (), 1) == 63
  del left['prepare'], left['w2v_bert']
  left['soundstream'] = 2.0
  assert makespan(FORK, left, ('soundstream', 'kmeans'), 2) == 10 + 7 + 1


def test_two_stages_share_the_cores_and_a_failure_ends_both(
  tmp_path, monkeypatch, capsys
):
  """The one that is ended has kept what it had and continues next time."""
  core = min(os.sched_getaffinity(0))
  monkeypatch.setattr(slots, 'cores_of_slots', lambda: [{core}, {core}])
  begun = tmp_path / 'begun'
  slow = (
    'import os, time; print("no cause", flush=True); '
    f'os.sched_getaffinity(0) == {{{core}}} and '
    f'open({str(begun)!r}, "w"); time.sleep(60)'
  )
  failing = (
    f'import os, time\nwhile not os.path.exists({str(begun)!r}): '
    'time.sleep(0.1)\nexit(3)'
  )
  stages = [
    stage_of('w2v_bert', (), 1.0, True, slow, tmp_path),
    stage_of('mulan', (), 1.0, True, failing, tmp_path),
    stage_of('tokenize', ('w2v_bert', 'mulan'), out=tmp_path),
  ]
  shown = ProgressLine(stages)
  with pytest.raises(UsageError, match="'mulan' ended with exit code 3"):
    scheduler.run_all(stages, dict.fromkeys(NAMES, 'a'), tmp_path, shown)
  assert 'no cause' not in capsys.readouterr().out
  stamps = {path.stem for path in (tmp_path / 'stamps').iterdir()}
  assert stamps == {'w2v_bert', 'mulan'}
  for name in stamps:
    stamp = process.Stamp.read(tmp_path / 'stamps' / f'{name}.json')
    assert not stamp.finished and 0 < stamp.seconds < 50


def test_the_plan_is_the_whole_cascade_and_the_seed_reaches_it(tmp_path):
  stages = plan.CascadePlan(tmp_path, 7, 'tiny', 100).stages()
  assert tuple(stage.name for stage in stages) == NAMES
  for stage in stages:
    before = NAMES[: NAMES.index(stage.name)]
    assert set(stage.needs) <= set(before)
    if stage.name not in ('tokenize', 'features', 'bundle'):
      seeded = [a for a in stage.command if a.endswith('seed=7')]
      assert seeded, stage.name


def test_a_changed_command_changes_what_follows_and_nothing_else(tmp_path):
  def hashes(steps):
    stages = plan.CascadePlan(tmp_path, 0, 'tiny', 100, steps).stages()
    return stages, plan.input_hashes(stages, with_code=False)

  _, before = hashes(None)
  _, after = hashes(5)
  assert before['prepare'] == after['prepare']
  assert all(before[name] != after[name] for name in NAMES[1:])


# stage -> files of the rooms that it runs through, by its own command
ROOMS = {
  'prepare': ('rendered_music/composer.py', 'contracts/atomic_file.py'),
  'soundstream': ('soundstream/task.py', 'nn/quantizer.py', 'data/sources.py'),
  'w2v_bert': ('w2v_bert/task.py', 'nn/conformer.py', 'dsp/spectrogram.py'),
  'kmeans': ('w2v_bert/kmeans_task.py', 'nn/kmeans.py'),
  'mulan': ('mulan/task.py', 'data/text.py', 'rendered_music/captions.py'),
  'mulan_rvq': ('embedding_rvq/task.py', 'nn/quantizer.py'),
  **dict.fromkeys(
    ('semantic', 'coarse', 'fine'),
    ('token_lm/task.py', 'nn/transformer.py', 'data/token_store.py'),
  ),
  'tokenize': ('cascade/corpus.py', 'contracts/token_contract.py'),
  'features': ('soundstream/codec.py', 'cascade/networks.py'),
  'bundle': ('cascade/bundle.py', 'contracts/ownership.py'),
  'generate': ('cascade/generator.py', 'cascade/conditioning.py'),
  'evaluate': ('metrics/bootstrap.py', 'cascade/tokenizer.py'),
}
TRAINED = (
  *('contracts/task.py', 'stages.py', 'cascade/stage_data.py'),
  *('training/loop.py', 'training/step.py', 'launch/devices.py'),
)
OWN = {
  'features': ('features.py', 'feature_cache.py', 'artifacts.py'),
  'evaluate': (
    *('gates.py', 'lm_checks.py', 'negative_controls.py'),
    *('semantic_checks.py', 'prompt_checks.py', 'classifiers.py'),
  ),
}


def plan_of_demo():
  return plan.CascadePlan(Path('runs/demo'), 0, 'tiny', 100).stages()


@pytest.mark.parametrize('stage', plan_of_demo(), ids=lambda stage: stage.name)
def test_the_code_of_a_stage_is_all_rooms_that_it_runs_through(stage):
  rooms = [ROOT / 'musiclm_jax' / file for file in ROOMS[stage.name]]
  rooms += [
    ROOT / 'experiments' / 'tiny_cascade' / file
    for file in OWN.get(stage.name, ())
  ]
  if stage.config:
    rooms += [ROOT / 'musiclm_jax' / file for file in TRAINED]
  found = source_code.files(stage.command[0], stage.builds)
  assert not {*rooms} - {*found}


LANGUAGE_MODELS = ('coarse', 'semantic', 'fine')
AFTER_TOKENS = (*LANGUAGE_MODELS, 'features', 'bundle', 'generate', 'evaluate')
# edited file -> the stages that start over
EDITS = {
  'musiclm_jax/contracts/errors.py': NAMES,
  'musiclm_jax/stages.py': NAMES[1:],
  'musiclm_jax/cascade/stage_data.py': NAMES[1:],
  'musiclm_jax/embedding_rvq/task.py': ('mulan_rvq', 'tokenize', *AFTER_TOKENS),
  'musiclm_jax/token_lm/task.py': (
    *LANGUAGE_MODELS,
    *('bundle', 'generate', 'evaluate'),
  ),
  'musiclm_jax/token_lm/model.py': AFTER_TOKENS,
  'configs/fine.py': ('fine', 'bundle', 'generate', 'evaluate'),
  'experiments/tiny_cascade/gates.py': ('features', 'evaluate'),
}


@pytest.fixture(scope='module')
def packages(tmp_path_factory):
  """A copy of the code that may be edited, and the hashes before."""
  out = tmp_path_factory.mktemp('code')
  ignored = shutil.ignore_patterns('__pycache__')
  for name in (
    *('musiclm_jax', 'configs'),
    *('experiments/tiny_cascade', 'experiments/semantic_tokens'),
  ):
    shutil.copytree(ROOT / name, out / name, ignore=ignored)
  return out, plan.input_hashes(plan_of_demo(), root=out)


@pytest.mark.parametrize('file', EDITS)
def test_an_edit_starts_over_what_depends_on_it_and_nothing_else(
  file, packages
):
  root, before = packages
  text = (root / file).read_text()
  (root / file).write_text(text + '# edited\n')
  after = plan.input_hashes(plan_of_demo(), root=root)
  (root / file).write_text(text)
  assert {n for n in NAMES if before[n] != after[n]} == {*EDITS[file]}


@pytest.mark.parametrize('name', ['prepare', 'features', 'evaluate'])
def test_what_a_stage_imports_in_truth_is_among_its_files(name, run_python):
  stage = next(stage for stage in plan_of_demo() if stage.name == name)
  module = stage.command[0]
  late = {
    'prepare': 'musiclm_jax.data.preparable',
    'features': 'experiments.tiny_cascade.evaluation',
    'evaluate': 'experiments.tiny_cascade.evaluation',
  }[name]
  code = (
    f'import sys, {module}, {late}; '
    'print(*(m.__file__ for n, m in sys.modules.items() '
    "if n.startswith(('musiclm_jax', 'experiments')) and m.__file__))"
  )
  printed = run_python(code)
  found = {str(path) for path in source_code.files(module, stage.builds)}
  imported = set(printed.split())
  assert len(imported) > 10 and imported <= found, imported - found


def finished(out, gates, strict=False):
  report = {'gates': gates, 'stages': [], 'baselines': {}, 'token_hashes': {}}
  (out / 'report.json').write_text(json.dumps(report))
  stage = appending(out)
  scheduler.run_stage(stage, 'a', out, line())
  return scheduler.finish(out, [stage], strict)


def row(name, passed, kind='machinery'):
  figures = dict.fromkeys(('value', 'chance', 'low', 'high'), 0.5)
  return {
    **{'name': name, 'kind': kind, 'stage': 'mulan', 'passed': passed},
    **figures,
  }


def test_a_failed_gate_is_exit_code_1_and_names_the_stage(tmp_path, capsys):
  code = finished(tmp_path, [row('codec_usage', True), row('x_recall', False)])
  text = capsys.readouterr().out
  assert code == 1
  assert "gate 'x_recall' failed" in text and "look at stage 'mulan'" in text
  stages = json.loads((tmp_path / 'report.json').read_text())['stages']
  assert stages[0]['name'] == 'prepare' and stages[0]['seconds'] > 0
  assert set(stages[0]) == {'name', 'seconds', 'peak_bytes'}


def test_a_size_that_does_not_suffice_fails_a_shipped_model_only(
  tmp_path, capsys
):
  gates = [row('codec_usage', True), row('cascade_music', False, 'size')]
  assert finished(tmp_path, gates) == 0
  text = capsys.readouterr().out
  assert 'The machinery works: all 1 of its gates hold.' in text
  assert 'not reached at this size: cascade_music.' in text
  assert finished(tmp_path, gates, strict=True) == 1


def test_passed_gates_are_exit_code_0(tmp_path, capsys):
  gates = [row('codec_usage', True), row('cascade_copy', True)]
  gates[1]['low'] = None
  del gates[1]['kind']  # as earlier versions wrote it
  assert finished(tmp_path, gates, strict=True) == 0
  assert 'all 2 of its gates hold' in capsys.readouterr().out


def command(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.tiny_cascade.run', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )


def test_an_unknown_stage_is_refused_with_the_known_ones(tmp_path):
  run = command(f'--out={tmp_path}', '--until=vocoder')
  assert run.returncode == 2
  assert 'vocoder' in run.stderr.splitlines()[-1]
  assert 'soundstream' in run.stderr.splitlines()[-1]
  assert not list(tmp_path.iterdir())


def test_a_second_demo_in_one_folder_is_refused(tmp_path):
  with ownership.hold(tmp_path, run_folder.FOLDER, 'running a demo'):
    run = command(f'--out={tmp_path}', '--until=prepare')
  assert run.returncode == 2
  assert 'another run is running a demo in' in run.stderr.splitlines()[-1]
  assert [path.name for path in tmp_path.iterdir()] == [ownership.MARK]


def test_an_interrupt_ends_the_stage_too(tmp_path):
  pid = tmp_path / 'pid'
  hold = (
    f'import os, time; open({str(pid)!r}, "w").write(str(os.getpid())); '
    'time.sleep(60)'
  )
  code = (
    # A background job inherits an ignored SIGINT; a terminal's job does not.
    'import signal; signal.signal(signal.SIGINT, signal.default_int_handler); '
    'from pathlib import Path; import sys; '
    'from experiments.tiny_cascade import process; '
    f'process.run([sys.executable, "-c", {hold!r}], '
    f'Path({str(tmp_path / "log")!r}), Path({str(tmp_path / "events")!r}), '
    'lambda usage: None)'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', code], cwd=ROOT, stderr=subprocess.DEVNULL
  )
  for _ in range(200):
    if pid.exists() and pid.read_text():
      break
    time.sleep(0.1)
  process.send_signal(signal.SIGINT)
  process.wait(30)
  with pytest.raises(ProcessLookupError):
    for _ in range(50):
      os.kill(int(pid.read_text()), 0)
      time.sleep(0.1)


def test_no_class_of_package_and_cascade_has_a_namesake():
  """A name means one thing; private ones are seen in their file alone."""
  owners = {}
  folders = ('experiments/tiny_cascade', 'musiclm_jax/metrics')
  ours = [p for name in folders for p in (ROOT / name).rglob('*.py')]
  for path in {*ours, *(ROOT / 'musiclm_jax').rglob('*.py')}:
    for node in ast.parse(path.read_text()).body:
      if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
        owners.setdefault(node.name, set()).add(path)
  assert not {
    name: paths
    for name, paths in owners.items()
    if len(paths) > 1 and paths & set(ours)
  }
