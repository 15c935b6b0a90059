"""The tiny w2v-BERT of its own tests, whose layers are probed."""

from w2v_bert.conftest import initial, task, waveform

__all__ = ['initial', 'task', 'waveform']
