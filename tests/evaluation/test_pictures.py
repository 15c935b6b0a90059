"""Pictures without a drawing library: PNG files and charts."""

import struct
import zlib
from xml.etree import ElementTree

import numpy as np

from musiclm_jax.evaluation import pictures

RATE = 24_000


def sine(hz, seconds=1.0):
  return np.sin(2 * np.pi * hz * np.arange(round(RATE * seconds)) / RATE)


def chunks(data):
  found, at = {}, 8
  while at < len(data):
    (size,) = struct.unpack_from('>I', data, at)
    name, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
    (checksum,) = struct.unpack_from('>I', data, at + 8 + size)
    assert checksum == zlib.crc32(name + content)
    found[name], at = content, at + 12 + size
  return found


def test_a_sine_is_bright_in_its_band_and_20_db_are_20_db():
  low, high = (pictures.decibels(sine(hz), RATE) for hz in (220, 4000))
  assert low.shape == high.shape == (96, 49)
  for levels in (low, high):
    # A high filter sums several bins of the sine's lobe.
    assert -6 < levels[:, 20].max() < 18
  assert low[:, 20].argmax() < high[:, 20].argmax()
  quiet = pictures.decibels(0.01 * sine(4000), RATE)
  np.testing.assert_allclose(high.max() - quiet.max(), 40, atol=0.1)


def test_short_silent_and_broken_clips_are_drawn():
  for wave in (np.zeros(0), np.zeros(100), np.full(RATE, np.nan)):
    assert pictures.spectrogram(wave, RATE).startswith(b'\x89PNG')


def test_a_png_has_all_pixels_from_dark_to_bright():
  image = np.array([[0, 128, 255], [255, 0, 1]], np.uint8)
  data = pictures.png(image)
  assert data.startswith(b'\x89PNG\r\n\x1a\n')
  parts = chunks(data)
  assert struct.unpack_from('>IIBB', parts[b'IHDR']) == (3, 2, 8, 3)
  rows = np.frombuffer(zlib.decompress(parts[b'IDAT']), np.uint8)
  np.testing.assert_array_equal(rows.reshape(2, 4)[:, 1:], image)
  palette = np.frombuffer(parts[b'PLTE'], np.uint8).reshape(256, 3)
  light = palette.astype(float) @ (0.2126, 0.7152, 0.0722)
  assert np.all(np.diff(light) >= 0)


def test_clips_on_one_scale_show_which_is_softer():
  top = pictures.loudest(*(pictures.decibels(x, RATE) for x in (sine(440),)))
  loud, soft = (
    chunks(pictures.spectrogram(gain * sine(440), RATE, top))[b'IDAT']
    for gain in (1.0, 0.1)
  )
  loud, soft = (
    np.frombuffer(zlib.decompress(x), np.uint8).max() for x in (loud, soft)
  )
  assert loud == 255 and 170 < soft < 195  # 20 of 70 dB below


def test_a_chart_is_whole_xml_and_begins_at_zero():
  drawn = pictures.line_chart(
    {'a <b>': [(1, 5.0), (2, 30.0)], 'c': [(1, 7.0)]},
    title='FAD & more',
    x_label='x',
    y_label='y',
    limit=('top', 32.0),
  )
  root = ElementTree.fromstring(drawn)
  texts = [node.text for node in root.iter('text')]
  assert {'FAD & more', 'a <b>', 'c', 'top', '0', '40'} <= set(texts)
  assert len(list(root.iter('polyline'))) == 2
  assert len(list(root.iter('circle'))) == 3


def test_a_chart_of_one_point_or_of_equal_ones_has_an_axis():
  for points in ([(3, 0.0)], [(1, -2.0), (1, -2.0)]):
    drawn = pictures.line_chart(
      {'a': points}, title='t', x_label='x', y_label='y'
    )
    assert 'nan' not in drawn and 'inf' not in drawn


def test_equal_tokens_have_one_colour_and_256_have_as_many():
  codes = np.array([[0, 7], [7, 0], [255, 256]])
  found = chunks(pictures.token_stream(codes))
  assert struct.unpack_from('>II', found[b'IHDR']) == (3, 2)
  palette = np.frombuffer(found[b'PLTE'], np.uint8).reshape(256, 3)
  rows = np.frombuffer(zlib.decompress(found[b'IDAT']), np.uint8)
  colors = palette[rows.reshape(2, 4)[:, 1:].T]
  same = (colors[:, :, None, None] == colors[None, None]).all(-1)
  expected = codes[:, :, None, None] % 256 == codes[None, None] % 256
  assert (same == expected).all()
  assert colors[0, 0].max() == 0  # silence is black
  assert len(np.unique(palette, axis=0)) == 256
