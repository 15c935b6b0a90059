"""The model card of a bundle: what one who finds the folder should know."""

from collections.abc import Mapping

from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.cascade.weights import Weights
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.contracts.token_contract import TokenContract


def text(
  stages: Mapping[str, Weights],
  contract: TokenContract,
  settings: SamplingConfig,
  dtype: DType = 'float32',
) -> str:
  """Writes the card as Markdown."""
  rows = '\n'.join(
    f'| {stage} | {sum(a.size for a in stages[stage].arrays().values()):,} |'
    for stage in stages
  )
  streams = '\n'.join(
    f'| {name} | {spec.codebook_size} | {spec.num_levels} | '
    f'{round(spec.frame_rate, 3) or "one a clip"} |'
    for name, spec in contract.streams.items()
  )
  prompts = (
    f'{settings.mulan_levels} MuLan levels of a prompt are used, with '
    f'guidance\n{settings.guidance_semantic}, {settings.guidance_coarse} and '
    f'{settings.guidance_fine} (1.0 is none, as in the paper).'
  )
  if settings.mulan_levels == 0:
    prompts = (
      'no MuLan level of a prompt is used.\n\n'
      '**Prompts are not used.** Of all numbers of levels that captions of '
      'held-out\nmusic could be read with, none was found, or was asked for, '
      'that is better than\nno prompt. `--mulan_levels` of '
      '`musiclm_jax.generate` insists on some.'
    )
  return f"""# A musiclm_jax bundle

Text to music after MusicLM (arXiv:2301.11325): all networks of the cascade.

    python -m musiclm_jax.generate --bundle=THIS_FOLDER --text="slow piano" \\
      --seconds=10 --seed=0 --out=x.wav

| network | stored numbers |
|---|---|
{rows}

| tokens | codebook | levels | frames a second |
|---|---|---|---|
{streams}

Sampling: temperatures {settings.temperature_semantic} (semantic),
{settings.temperature_coarse} (coarse), {settings.temperature_fine} (fine);
{prompts}

Weights are stored in {dtype} and computed with as they were trained.

Audio: {contract.sample_rate} Hz, mono. `bundle.json` holds the SHA-256 of each
file. The networks can only be as good, and as biased, as the audio they were
trained on; see the config files for its source and the length of training.
"""
