"""The page in a browser: typed, heard, changed, refused, looked at.

It wants Chromium and its driver: `apt install chromium chromium-driver`.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytestmark = [
  pytest.mark.soak,
  pytest.mark.skipif(
    not (shutil.which('chromium') and shutil.which('chromedriver')),
    reason='apt install chromium chromium-driver',
  ),
]

ROOT = Path(__file__).parents[2]
SECONDS = 4
# Of what the audio element has got: its seconds and its loudest sample.
_DECODE = """
const done = arguments[arguments.length - 1];
const measure = async () => {
  const bytes = await (await fetch(document.getElementById('audio').src))
    .arrayBuffer();
  const context = new OfflineAudioContext(1, 1, 24000);
  const sound = await context.decodeAudioData(bytes);
  const loudest = sound.getChannelData(0).reduce(
    (most, x) => Math.max(most, Math.abs(x)), 0);
  return [sound.duration, loudest];
};
measure().then(done, (error) => done([0, String(error)]));
"""


@pytest.fixture(scope='module')
def address():
  command = [sys.executable, '-m', 'musiclm_jax.serve', '--port=0']
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  with subprocess.Popen(
    command, stderr=subprocess.PIPE, text=True, env=environment
  ) as server:
    for line in server.stderr:
      if found := re.search(r'http://\S+', line):
        break
    yield found[0]
    server.terminate()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=['desktop', 'phone'])
def browser(request, address):
  from selenium import webdriver
  from selenium.webdriver.chrome.service import Service

  options = webdriver.ChromeOptions()
  options.binary_location = shutil.which('chromium')
  for argument in (
    '--headless=new',
    '--no-sandbox',
    '--autoplay-policy=no-user-gesture-required',
    '--window-size={},{}'.format(*request.param),
  ):
    options.add_argument(argument)
  service = Service(shutil.which('chromedriver'))
  driver = webdriver.Chrome(options, service)
  if request.param[0] < 500:  # a window has a least width, a phone has not
    driver.execute_cdp_cmd(
      'Emulation.setDeviceMetricsOverride',
      {
        'width': request.param[0],
        'height': request.param[1],
        'deviceScaleFactor': 1,
        'mobile': True,
      },
    )
  driver.set_script_timeout(120)
  driver.get(address)
  yield driver
  driver.quit()


def element(browser, name):
  return browser.find_element('css selector', name)


def wait(browser, expected, seconds=180):
  """Waits until the page's line says something."""
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    line = element(browser, '#line').text
    if re.search(expected, line):
      return line
    time.sleep(0.1)
  raise AssertionError(f'no {expected!r} in {seconds} s, but {line!r}')


def set_length(browser, seconds):
  browser.execute_script(
    "const e = document.getElementById('seconds'); e.value = arguments[0];"
    "e.dispatchEvent(new Event('input'))",
    seconds,
  )


def picture(browser, name):
  """Leaves a screenshot where PAGE_PICTURES says."""
  if folder := os.environ.get('PAGE_PICTURES'):
    Path(folder).mkdir(parents=True, exist_ok=True)
    width = browser.get_window_size()['width']
    browser.save_screenshot(str(Path(folder) / f'{name}-{width}.png'))


def test_a_typed_prompt_is_heard_and_saved(browser):
  prompt = element(browser, '.style input')
  prompt.clear()
  prompt.send_keys('fast techno with a synth lead')
  set_length(browser, SECONDS)
  element(browser, '#play').click()
  wait(browser, '^done$')
  duration, loudest = browser.execute_async_script(_DECODE)
  assert abs(duration - SECONDS) < 1e-3 and loudest > 0.01
  assert element(browser, '#save').is_displayed()
  for stream in ('mulan', 'semantic', 'coarse', 'fine'):
    canvas = element(browser, f'#{stream}')
    assert int(canvas.get_attribute('width')) >= 12
  wide = browser.execute_script(
    'return document.documentElement.scrollWidth <= innerWidth'
  )
  assert wide, 'nothing stands out at the side'
  picture(browser, 'done')


def test_the_prompt_changes_while_it_plays(browser):
  set_length(browser, 30)
  element(browser, '#play').click()
  end = time.monotonic() + 120
  while not element(browser, '#change').is_enabled():
    assert time.monotonic() < end
    time.sleep(0.1)
  prompt = element(browser, '.style input')
  prompt.clear()
  prompt.send_keys('slow solo piano')
  element(browser, '#change').click()
  # The line tells of progress, too, at once after it.
  end = time.monotonic() + 120
  said = set()
  while not any('another prompt from' in line for line in said):
    assert time.monotonic() < end, said
    said.add(element(browser, '#line').text)
  element(browser, '#stop').click()
  wait(browser, '^stopped$')


def test_what_is_refused_is_said(browser, tmp_path):
  prompt = element(browser, '.style input')
  prompt.clear()
  element(browser, '#play').click()
  assert '--text is empty' in wait(browser, 'empty')
  picture(browser, 'refused')
  (tmp_path / 'large.wav').write_bytes(bytes(33 << 20))
  element(browser, '#sound').send_keys(str(tmp_path / 'large.wav'))
  assert wait(browser, 'at most') == 'large.wav has 33 MB: 32 MB at most'
  tone = 0.3 * np.sin(np.arange(48_000) * 0.1)
  soundfile.write(tmp_path / 'tone.wav', tone, 24_000)
  element(browser, '#sound').send_keys(str(tmp_path / 'tone.wav'))
  end = time.monotonic() + 60
  while len(browser.find_elements('css selector', '.style')) < 2:
    assert time.monotonic() < end
    time.sleep(0.1)
  picture(browser, 'mix')
