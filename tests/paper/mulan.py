"""MuLan's numbers and those of MuLan tokens."""

from paper.rows import Chapter, Claim, Number

_NOTES = 'MuLan, notes'
_TOWERS = 'mulan/test_mulan_towers.py::'
_LOSSES = 'mulan/test_mulan_losses.py::'
_TASK = 'mulan/test_mulan_task.py::'
_RVQ = 'embedding_rvq/test_embedding_rvq.py::'


def _text(key: str) -> str:
  return f'mulan.model.text.{key}'


NETWORK = Chapter(
  'MuLan: the towers',
  (
    Number('window, s', 10, 'mulan.loss.window_seconds', _NOTES),
    Number(
      'frames of a window',
      1000,
      'mulan.loss.window_seconds * mulan_model.TOWER_RATE'
      ' / mulan.model.hop_length',
      _NOTES,
    ),
    Number(
      'hop and window of the spectrogram, ms',
      (10, 25),
      '(mulan.model.hop_length / 16, mulan.model.window_length / 16)',
      _NOTES,
    ),
    Number(
      'sample rate, Hz', 16_000, 'mulan_model.TOWER_RATE', 'MuLan, memory'
    ),
    Number('mel bands of ResNet-50', 64, 'mulan.model.num_mels', _NOTES),
    Number('mel bands of AST', 128, 'mulan_ast.model.num_mels', _NOTES),
    Number('audio tower', 'resnet', 'mulan.model.audio_tower', 'MusicLM §2.5'),
    Number(
      'blocks of ResNet-50',
      (3, 4, 6, 3),
      'task("mulan").mulan.model.audio_tower.stage_blocks',
      'ResNet',
    ),
    Number(
      'parameters of ResNet-50 without its classifier, millions',
      23.5,
      'millions(parameters("mulan", "mulan/audio_tower"), 1)',
      'ResNet, derived',
    ),
    Number(
      'layers, width, heads of AST',
      (12, 768, 12),
      '(task("mulan", "paper_ast").mulan.model.audio_tower.num_layers,'
      ' task("mulan", "paper_ast").mulan.model.audio_tower.embed_dim,'
      ' task("mulan", "paper_ast").mulan.model.audio_tower.num_heads)',
      'AST, code',
    ),
    Number(
      'patch and stride of AST',
      (16, 10),
      '(task("mulan", "paper_ast").mulan.model.audio_tower.patch_size,'
      ' task("mulan", "paper_ast").mulan.model.audio_tower.patch_stride)',
      'AST, code',
    ),
    Number(
      'patches of AST',
      1212,
      'shapes("mulan", "paper_ast")["mulan/audio_tower/position"][0] - 2',
      'AST, code',
      departs='1,000 frames in 10 s instead of 1,024: 12 × 99',
    ),
    Number('word pieces of a text', 512, _text('max_length'), _NOTES),
    Number('word pieces known', 30_522, _text('vocab_size'), 'BERT, memory'),
    Number(
      'layers, width, heads, inner width of the text tower',
      (12, 768, 12, 3072),
      '[mulan.model.text[k] for k in'
      ' ("num_layers", "embed_dim", "num_heads", "mlp_dim")]',
      'BERT, memory',
    ),
    Number('pooling of the text', 'cls', _text('pooling'), 'BERT, memory'),
    Number(
      'width of the embedding', 128, 'mulan.model.embed_dim', 'MusicLM §2.5'
    ),
  ),
  (
    Claim(
      'Each band is standardised over the corpus; AST takes the mean -4.268 '
      'and the deviation 2 × 4.569 of AudioSet.',
      'AST, code',
      (_TASK + 'test_only_training_moves_the_running_statistics',),
      'statistics belong to the music that is learned from',
    ),
    Claim(
      'Both towers end in unit vectors.',
      _NOTES,
      (_TASK + 'test_both_modalities_are_unit_vectors',),
    ),
    Claim(
      'Each tower equals a published implementation with its weights.',
      'ResNet, BERT, AST',
      (
        _TOWERS + 'test_resnet_parity_with_torchvision_layout',
        _TOWERS + 'test_text_tower_parity_with_bert',
        _TOWERS + 'test_audio_transformer_parity_with_ast',
      ),
    ),
    Claim(
      'The text tower can start from a published BERT.',
      'MusicLM §2.5',
      (
        'interop/test_bert.py::'
        'test_a_loaded_tower_is_the_bert_of_its_checkpoint',
      ),
      'MuLan always does; here only where `--init_text` names one',
    ),
  ),
)

TRAINING = Chapter(
  'MuLan: loss and training',
  (
    Number('first temperature', 0.1, 'mulan.model.initial_temperature', _NOTES),
    Number(
      'bounds of the temperature',
      None,
      'mulan_model._TEMPERATURES',
      silent='it is trained; without bounds it can run away',
    ),
    Number('batch with ResNet-50', 6144, 'mulan.data.batch_size', _NOTES),
    Number('batch with AST', 5120, 'mulan_ast.data.batch_size', _NOTES),
    Number(
      'epochs of 44 million clips',
      14,
      'round(mulan.schedule.total_steps * mulan.data.batch_size / 44e6)',
      _NOTES,
    ),
    Number(
      'the same with AST',
      14,
      'round(mulan_ast.schedule.total_steps'
      ' * mulan_ast.data.batch_size / 44e6)',
      _NOTES,
    ),
    Number('random crop of a clip, s', 10, 'mulan.data.crop_seconds', _NOTES),
    Number(
      'features standardised by batch, which a short run needs',
      False,
      'mulan.model.norm_features',
      'none in MuLan',
    ),
    Number(
      'widest stripes of SpecAugment, shares of frames and of bands',
      None,
      '(mulan.model.frame_mask, mulan.model.band_mask)',
      silent="as AST has them; MuLan's are unknown",
    ),
    Number(
      'learning rate',
      None,
      'mulan.optimizer.mulan.learning_rate',
      silent='ours, with warm-up and cosine',
    ),
    Number(
      'data',
      '44 million clips of 30 s, 370,000 h, with their texts',
      'mulan.data.source',
      _NOTES,
      departs='a folder of your own; no data set is shipped',
    ),
    Number(
      'short texts, long texts, playlist titles, AudioSet labels',
      '2 : 2 : 1 : 1',
      source=_NOTES,
      absent='one kind of caption a source; such texts are not public',
      pattern='playlist',
    ),
  ),
  (
    Claim(
      'One denominator for both directions, the positive not in it.',
      'MuLan, notes and memory',
      (
        _LOSSES + 'test_loss_equals_a_double_loop',
        _LOSSES + 'test_the_positive_is_not_in_the_denominator',
      ),
    ),
    Claim(
      'Pairs that are described alike are no negatives of each other.',
      'ours; MuLan does not',
      (_LOSSES + 'test_pairs_of_one_group_do_not_push_each_other_away',),
      'a caption that fits both says nothing against either',
    ),
    Claim(
      'A caption that is true of the crop of another pair is no negative of '
      'it; nor are pairs of one piece.',
      'ours; MuLan does not',
      (
        _LOSSES + 'test_a_true_caption_has_no_effect_on_the_loss_and_gets_no_'
        'gradient',
      ),
      'where `data.mark_true_pairs` is set, as at `small`; `paper` is as MuLan',
    ),
  ),
)

TOKENS = Chapter(
  'MuLan tokens',
  (
    Number(
      'window and stride, s',
      (10, 1),
      '(mulan.loss.window_seconds, mulan.loss.window_hop_seconds)',
      'MusicLM §3.1',
    ),
    Number(
      'windows in 30 s and in 10 s',
      (21, 1),
      '[framing.num_frames(s, 10, 1) for s in (30, 10)]',
      'MusicLM, derived',
    ),
    Number('tokens', 12, 'mulan_rvq.model.num_levels', 'MusicLM §3.1'),
    Number(
      'entries a level', 1024, 'mulan_rvq.model.codebook_size', 'MusicLM §3.1'
    ),
    Number(
      'crop of the fit and of the semantic stage, s',
      (30, 30),
      '(mulan_rvq.data.crop_seconds, semantic.data.crop_seconds)',
      'derived: the mean is over as many windows',
    ),
    Number(
      'decay of the running means',
      None,
      'mulan_rvq.loss.decay',
      silent='MusicLM does not say how the quantizer is fitted',
    ),
  ),
  (
    Claim(
      'The mean over windows is scaled to length 1 again.',
      'ours; MusicLM is silent',
      (_TASK + 'test_windows_are_averaged_and_scaled_again',),
    ),
    Claim(
      'A code that is not used takes half of one that is used much.',
      'ours; MusicLM is silent',
      (_RVQ + 'test_deep_levels_use_their_codes_too',),
      'at `tiny` and `small`: a point in its place is never chosen on levels '
      'whose residuals have no clusters',
    ),
    Claim(
      "Each modality's mean is subtracted before the quantizer.",
      'ours; MusicLM does not',
      (_RVQ + 'test_centring_by_modality_hands_text_over_to_audio',),
      'a constant offset between text and audio would become tokens',
    ),
    Claim(
      'Text and audio share codebooks, which audio alone has fitted.',
      'MusicLM §3.1',
      (_RVQ + 'test_text_moves_its_mean_and_no_codebook',),
    ),
  ),
)

CHAPTERS = (NETWORK, TRAINING, TOKENS)
