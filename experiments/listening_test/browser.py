"""A headless Chromium that is spoken to over a pipe, by its DevTools protocol.

JSON messages with a NUL after each, `--remote-debugging-pipe`: no driver and no
package is needed beside Debian's `chromium`.
"""

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
_COMMANDS, _REPLIES = 3, 4  # descriptors that the browser reads and writes
_KEYS = {' ': 'Space', 'Enter': 'Enter', 'Backspace': 'Backspace'}
_CODES = {
  **{'Enter': 13, 'Backspace': 8, ' ': 32, 'ArrowUp': 38, 'ArrowDown': 40},
  **{'PageUp': 33, 'PageDown': 34},
}


def find() -> str | None:
  """The path of a browser, None where none is installed."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
  """A tab of a browser.

  Attributes:
    requests: Addresses that were asked for.
    problems: What the page wrote as errors, and exceptions nobody caught.
  """

  def __init__(self, commands: int, replies: int):
    """Opens a tab over the two ends of pipes."""
    self.requests: list[str] = []
    self.problems: list[str] = []
    self._commands, self._replies = commands, replies
    self._ids = itertools.count(1)
    self._rest = b''
    self._session: str | None = None
    target = self.call('Target.createTarget', url='about:blank')
    attached = self.call(
      'Target.attachToTarget', targetId=target['targetId'], flatten=True
    )
    self._session = attached['sessionId']
    for domain in ('Page', 'Runtime', 'Network', 'Log'):
      self.call(f'{domain}.enable')

  def call(self, method: str, **parameters: Any) -> dict[str, Any]:
    """Calls a method of the protocol and waits for what it returns."""
    number = next(self._ids)
    message = {'id': number, 'method': method, 'params': parameters}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._commands, json.dumps(message).encode() + b'\0')
    while True:
      reply = self._receive()
      if reply.get('id') == number:
        if 'error' in reply:
          raise RuntimeError(f'{method}: {reply["error"]["message"]}')
        return reply['result']

  def open(self, address: str) -> None:
    """Opens an address, or the same one again."""
    self.run('window.isLeft = true')
    self.call('Page.navigate', url=address)
    self.wait('!window.isLeft && document.readyState === "complete"')

  def run(self, code: str) -> Any:
    """Runs JavaScript and returns its value."""
    result = self.call('Runtime.evaluate', expression=code, returnByValue=True)
    if 'exceptionDetails' in result:
      raise RuntimeError(f'{code}: {result["exceptionDetails"]}')
    return result['result'].get('value')

  def wait(self, code: str, seconds: float = 15.0) -> None:
    """Waits until JavaScript is true."""
    limit = time.monotonic() + seconds
    while True:
      # A page that is being left cannot answer.
      with contextlib.suppress(RuntimeError):
        if self.run(code):
          return
      if time.monotonic() > limit:
        raise TimeoutError(f'not within {seconds:g} s: {code}')
      time.sleep(0.02)

  def press(self, key: str) -> None:
    """Presses a key and lets it go."""
    event = {
      'key': key,
      'code': _KEYS.get(key, key),
      'windowsVirtualKeyCode': _CODES.get(key, ord(key[0].upper())),
    }
    if len(key) == 1:
      event['text'] = key
    elif key == 'Enter':
      event['text'] = '\r'
    self.call('Input.dispatchKeyEvent', type='keyDown', **event)
    self.call('Input.dispatchKeyEvent', type='keyUp', **event)

  def type(self, text: str) -> None:
    """Types into what has the focus."""
    self.call('Input.insertText', text=text)

  def _receive(self, seconds: float = 30.0) -> dict[str, Any]:
    while b'\0' not in self._rest:
      if not select.select([self._replies], [], [], seconds)[0]:
        raise TimeoutError(f'the browser said nothing for {seconds:g} s')
      part = os.read(self._replies, 1 << 16)
      if not part:
        raise EOFError('the browser has ended')
      self._rest += part
    line, _, self._rest = self._rest.partition(b'\0')
    message = json.loads(line)
    parameters = message.get('params', {})
    if message.get('method') == 'Network.requestWillBeSent':
      self.requests.append(parameters['request']['url'])
    elif message.get('method') == 'Runtime.exceptionThrown':
      self.problems.append(str(parameters['exceptionDetails']))
    elif parameters.get('entry', {}).get('level') == 'error':  # of a log
      self.problems.append(str(parameters['entry']))
    return message


@contextlib.contextmanager
def tab(program: str, downloads: Path) -> Iterator[Tab]:
  """Starts a browser with a profile of its own and gives its first tab.

  Args:
    program: Path of the browser.
    downloads: Folder for the files that pages save.
  """
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    process, ends = _start(program, profile)
    try:
      found = Tab(*ends)
      found.call(
        'Page.setDownloadBehavior',
        behavior='allow',
        downloadPath=str(downloads.resolve()),
      )
      yield found
    finally:
      process.terminate()
      try:
        process.wait(10)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
      for end in ends:
        os.close(end)


def _start(program: str, profile: str) -> tuple[subprocess.Popen, list[int]]:
  """Starts a browser; returns it and our ends: to write, to read."""
  pipes = [os.pipe(), os.pipe()]
  theirs = pipes[0][0], pipes[1][1]
  # A shell gives them the numbers that the browser expects: of this process
  # they may be others.
  renumbered = (
    f'exec "$0" "$@" {_COMMANDS}<&{theirs[0]} {_REPLIES}>&{theirs[1]}'
  )
  process = subprocess.Popen(
    [
      *('bash', '-c', renumbered, program),
      *('--headless', '--remote-debugging-pipe', '--no-first-run'),
      *('--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'),
      *('--mute-audio', '--autoplay-policy=no-user-gesture-required'),
      *('--disable-background-networking', f'--user-data-dir={profile}'),
    ],
    pass_fds=theirs,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  for end in theirs:
    os.close(end)
  return process, [pipes[0][1], pipes[1][0]]
