"""The launch scripts against stand-ins of the clouds' tools."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / 'docs' / 'launch'
# Runs what it is told to run on 'all workers' in two processes' stead.
GCLOUD = """#!/bin/bash
echo "$@" >>"$LOG"
for word; do
  case $word in --command=*) cd "$HOME" && bash -c "${word#--command=}" ;; esac
done
"""
PYTHON = """#!/bin/bash
echo "${JAX_COORDINATOR_ADDRESS:-none} $*" >>"$LOG"
[[ "$*" == *train* && ! -e "$HOME/stopped" ]] || exit 0
touch "$HOME/stopped"
exit 75
"""


def write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


@pytest.fixture
def world(tmp_path):
  """A machine whose tools only take notes: (environment, notes)."""
  tools = tmp_path / 'tools'
  write(tools / 'gcloud', GCLOUD)
  write(tools / 'srun', '#!/bin/bash\n[[ $1 != --* ]] || shift\nexec "$@"\n')
  write(tools / 'scontrol', '#!/bin/bash\necho "scontrol $*" >>"$LOG"\n')
  write(tmp_path / 'musiclm_jax' / '.venv' / 'bin' / 'python', PYTHON)
  environment = os.environ | {
    'PATH': f'{tools}:{os.environ["PATH"]}',
    'HOME': str(tmp_path),
    'LOG': str(tmp_path / 'log'),
    'SLURM_JOB_ID': '42',
    'PYTHON': '.venv/bin/python',
  }
  return environment, tmp_path / 'log'


def run(script, *arguments, environment, cwd=None):
  return subprocess.run(
    [FOLDER / script, *arguments],
    env=environment,
    cwd=cwd,
    capture_output=True,
    text=True,
    timeout=60,
  )


def test_a_tpu_slice_trains_on_all_workers_and_goes_on_after_75(world):
  environment, log = world
  done = run(
    'tpu_vm.sh',
    *('pod', 'zone', 'train', '--config=a b.py', '--workdir=w'),
    environment=environment,
  )
  assert done.returncode == 0, done.stderr
  first, *rest = log.read_text().splitlines()
  assert 'ssh pod --zone=zone --worker=all' in first
  ran = [line for line in rest if line.startswith('auto ')]
  train = 'auto -m musiclm_jax.train --config=a b.py --workdir=w'
  assert ran == ['auto -m musiclm_jax.preflight', train, train]


def test_an_unknown_verb_is_one_line(world):
  done = run('tpu_vm.sh', 'pod', 'zone', 'fly', environment=world[0])
  assert done.returncode == 2 and done.stderr.startswith('error: unknown verb')


def test_slurm_queues_a_stopped_run_again(world):
  environment, log = world
  cwd = Path(environment['HOME']) / 'musiclm_jax'
  done = run('slurm.sh', '--config=c', environment=environment, cwd=cwd)
  assert done.returncode == 0, done.stderr
  assert log.read_text().splitlines()[-2:] == [
    'none -m musiclm_jax.train --config=c',
    'scontrol requeue 42',
  ]


def test_the_jobset_restarts_on_75_only():
  spec = yaml.safe_load((FOLDER / 'gke_jobset.yaml').read_text())['spec']
  (job,) = spec['replicatedJobs']
  (rule,) = job['template']['spec']['podFailurePolicy']['rules']
  assert rule['onExitCodes']['values'] == [75] and rule['action'] == 'FailJob'
  (restart,) = spec['failurePolicy']['rules']
  assert restart['onJobFailureReasons'] == ['PodFailurePolicy']
  pod = job['template']['spec']['template']['spec']
  (container,) = pod['containers']
  assert 'exec python -m musiclm_jax.train' in container['args'][0]
  chips = container['resources']['limits']['google.com/tpu']
  assert chips * job['template']['spec']['parallelism'] == 256
