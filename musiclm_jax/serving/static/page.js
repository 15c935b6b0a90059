// The page: asks for a piece, plays it while it is made, draws its tokens.

const at = (id) => document.getElementById(id);
let facts = {most_seconds: 60, most_styles: 4, most_sound_bytes: 32 << 20};
let piece = null; // name of the piece that is asked for
let source = null; // of its events
let tokens = {};
let coarse = 0; // acoustic levels of the coarse stage

function say(line, wrong = false) {
  at('line').textContent = line;
  at('line').classList.toggle('wrong', wrong);
}

async function send(method, path, body, type = 'application/json') {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      body,
      headers: body === undefined ? {} : {'Content-Type': type},
    });
  } catch {
    throw new Error('the server does not answer: is it still running?');
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error ?? `status ${answer.status}`);
  return found;
}

function addStyle(text, sound = null) {
  if (at('styles').children.length >= facts.most_styles) {
    say(`up to ${facts.most_styles} styles can be mixed`, true);
    return;
  }
  const row = document.createElement('div');
  row.className = 'style';
  const name = document.createElement('input');
  name.type = 'text';
  name.value = text;
  name.setAttribute('aria-label', sound ? 'Sound' : 'Prompt');
  name.placeholder = 'a slow waltz on a music box';
  name.maxLength = facts.most_characters ?? 1000;
  name.readOnly = sound !== null;
  const weight = document.createElement('input');
  Object.assign(weight, {type: 'range', min: 0.05, max: 1, step: 0.05, value: 0.5});
  weight.className = 'weight';
  weight.setAttribute('aria-label', 'Weight');
  const less = document.createElement('button');
  less.type = 'button';
  less.className = 'less';
  less.textContent = '×';
  less.setAttribute('aria-label', 'Remove this style');
  less.onclick = () => row.remove();
  row.append(name, weight, less);
  if (sound) row.dataset.sound = sound;
  at('styles').append(row);
  return name;
}

function request() {
  const styles = [];
  const sounds = [];
  for (const row of at('styles').children) {
    const weight = Number(row.querySelector('.weight').value);
    if (row.dataset.sound) sounds.push({sound: row.dataset.sound, weight});
    else styles.push({text: row.querySelector('input').value, weight});
  }
  return {
    styles,
    sounds,
    seconds: Number(at('seconds').value),
    seed: Number(at('seed').value),
    negative: at('negative').value.trim() || null,
    sampling: {
      guidance_semantic: Number(at('guidance').value),
      temperature_semantic: Number(at('temperature').value),
    },
  };
}

async function ask(event) {
  event.preventDefault();
  if (piece) await send('DELETE', `/pieces/${piece}`).catch(() => {});
  source?.close();
  let found;
  try {
    found = await send('POST', '/pieces', JSON.stringify(request()));
  } catch (error) {
    say(error.message, true);
    return;
  }
  piece = found.name;
  tokens = {};
  at('save').hidden = true;
  at('stop').disabled = false;
  say('asked for');
  source = new EventSource(`/pieces/${piece}/events`);
  source.onmessage = ({data}) => tell(JSON.parse(data));
  source.onerror = () => {
    source.close();
    ended();
    say('the server does not answer: is it still running?', true);
  };
}

function ended() {
  at('progress').hidden = true;
  at('change').disabled = at('stop').disabled = true;
}

function tell(event) {
  if (event.kind === 'queued') say(`${event.before} before this one end first`);
  if (event.kind === 'progress') {
    at('progress').hidden = false;
    at('progress').value = event.done / event.total;
    const left = event.eta === null ? '' : `, ${Math.ceil(event.eta)} s left`;
    say(`${event.stage}: ${Math.round((100 * event.done) / event.total)} %${left}`);
  }
  if (event.kind === 'begun') {
    coarse = event.coarse_levels;
    at('audio').src = `/pieces/${piece}/sound.wav`;
    at('audio').play().catch(() => say('press play'));
    at('change').disabled = false;
  }
  if (event.kind === 'chunk') draw(event.tokens);
  if (event.kind === 'changed') say(`another prompt from ${event.second.toFixed(1)} s on`);
  if (event.kind === 'refused') say(event.line, true);
  if (['done', 'failed', 'stopped'].includes(event.kind)) {
    source.close();
    ended();
    say({done: 'done', stopped: 'stopped'}[event.kind] ?? event.line, event.kind === 'failed');
    at('save').href = `/pieces/${piece}/piece.wav`;
    at('save').hidden = event.kind !== 'done';
  }
}

function draw(made) {
  for (const [name, codes] of Object.entries(made)) {
    tokens[name] = [...(tokens[name] ?? []), ...codes];
  }
  at('streams').hidden = false;
  const acoustic = tokens.acoustic ?? [];
  const levels = acoustic[0]?.length ?? 0;
  at('coarse-levels').textContent = coarse;
  at('fine-levels').textContent = levels - coarse;
  paint('mulan', (tokens.mulan ?? []).map((code) => [code]));
  paint('semantic', (tokens.semantic ?? []).map((code) => [code]));
  paint('coarse', acoustic.map((codes) => codes.slice(0, coarse)));
  paint('fine', acoustic.map((codes) => codes.slice(coarse)));
}

// A column a frame, a row a level, a colour a code.
function paint(id, frames) {
  const canvas = at(id);
  if (!frames.length || !frames[0].length) return;
  canvas.width = frames.length;
  canvas.height = frames[0].length;
  const context = canvas.getContext('2d');
  frames.forEach((codes, x) => codes.forEach((code, y) => {
    context.fillStyle = `hsl(${(code * 137.508) % 360} 60% ${35 + (code % 5) * 8}%)`;
    context.fillRect(x, y, 1, 1);
  }));
}

async function upload() {
  const file = at('sound').files[0];
  at('sound').value = '';
  if (!file) return;
  if (file.size > facts.most_sound_bytes) {
    say(`${file.name} has ${Math.round(file.size / 2 ** 20)} MB: `
      + `${facts.most_sound_bytes / 2 ** 20} MB at most`, true);
    return;
  }
  say(`reading ${file.name}`);
  try {
    const {sound} = await send('POST', '/sounds', file, 'application/octet-stream');
    addStyle(file.name, sound);
    say('');
  } catch (error) {
    say(error.message, true);
  }
}

facts = {...facts, ...await send('GET', '/facts').catch(() => ({}))};
at('seconds').max = facts.most_seconds;
for (const kind of ['guidance', 'temperature']) {
  at(kind).value = facts.sampling?.[`${kind}_semantic`] ?? at(kind).value;
}
for (const input of document.querySelectorAll('label > input[type=range]')) {
  const show = () => {
    const unit = input.id === 'seconds' ? ' s' : '';
    input.parentElement.querySelector('output').value = input.value + unit;
  };
  input.oninput = show;
  show();
}
at('ask').onsubmit = ask;
at('more').onclick = () => addStyle('')?.focus();
at('sound').onchange = upload;
at('stop').onclick = () => send('DELETE', `/pieces/${piece}`).catch((e) => say(e.message, true));
at('change').onclick = () => send('POST', `/pieces/${piece}/change`, JSON.stringify(request()))
  .catch((error) => say(error.message, true));
addStyle('a slow waltz on a music box');
