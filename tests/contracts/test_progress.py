from musiclm_jax.contracts.progress import Meter, Progress


class Clock:
  now = 100.0

  def __call__(self):
    return self.now


def test_events_tell_units_time_and_what_is_left():
  events, clock = [], Clock()
  meter = Meter('semantic', 10, 'tokens', events.append, clock)
  for seconds, units in ((5, 2), (2, 2), (2, 2)):
    clock.now += seconds
    meter.advance(units)
  assert events == [
    Progress('semantic', 0, 10, 'tokens', 0, None),
    Progress('semantic', 2, 10, 'tokens', 5, None),  # compiling says nothing
    Progress('semantic', 4, 10, 'tokens', 7, 6),
    Progress('semantic', 6, 10, 'tokens', 9, 4),
  ]
  meter.at(10)
  assert events[-1].eta == 0


def test_what_an_earlier_run_did_makes_nothing_look_faster():
  events, clock = [], Clock()
  meter = Meter('train', 100, 'crops', events.append, clock)
  meter.advance(50, skipped=True)
  assert (events[-1].done, events[-1].eta) == (50, None)
  for _ in range(2):
    clock.now += 10
    meter.advance(5)
  assert (events[-1].done, events[-1].eta) == (60, 80)
  meter.advance(20, skipped=True)
  assert (events[-1].done, events[-1].eta) == (80, 40)


def test_no_event_leaves_its_stage():
  events = []
  meter = Meter('fine', 3, 'windows', events.append)
  meter.at(-1)
  meter.advance(5)
  meter.advance()
  assert all(0 <= event.done <= event.total for event in events)
  assert events[-1].done == 3


def test_no_callback_is_needed(capfd):
  Meter('fine', 3, 'windows').advance()
  assert capfd.readouterr() == ('', '')
