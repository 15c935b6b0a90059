// A listening test: trials in an order of each rater, kept in this browser.
//
// LISTENING_TEST (trials.js) -> order of the rater -> answers -> a JSON file.
// Nothing here knows which system a clip is of: the builder keeps that apart.
'use strict';

const TEST = LISTENING_TEST;
const FORMAT = 'listening_test answers 1';
const POINTS = [
  [-2, 'A, clearly'],
  [-1, 'A, slightly'],
  [0, 'no preference'],
  [1, 'B, slightly'],
  [2, 'B, clearly'],
];
const QUALITY = ['bad', 'poor', 'fair', 'good', 'excellent'];
const KEYS = {
  ab: [
    ['A, B', 'play a clip from its beginning'],
    ['Space', 'stop, and go on'],
    ['1 … 5', 'answer, from A to B'],
    ['Enter', 'next'],
    ['Backspace', 'back to the answer before'],
    ['E', 'save the answers so far'],
  ],
  mushra: [
    ['0', 'play the reference'],
    ['1 … 9', 'play a clip, at the place where the other one was'],
    ['Space', 'stop, and go on'],
    ['↑ ↓', 'score of this clip, up or down by 1'],
    ['Page ↑ ↓', 'by 10'],
    ['Enter', 'next'],
    ['Backspace', 'back to the scores before'],
    ['E', 'save the answers so far'],
  ],
};
const isAb = TEST.kind === 'ab';

let order = [];  // trials of this rater, each with `shown`: clips in its order
let state = null;  // {rater, started, answers, draft}
let players = [];  // of the trial on the screen: {id, audio, button, heard}
let current = null;  // the player that was started last
let since = 0;  // when the trial came onto the screen, performance.now()

const find = (id) => document.getElementById(id);

/** Numbers in [0, 1) that depend on a text alone (FNV-1a, mulberry32). */
function generator(text) {
  let seed = 0x811c9dc5;
  for (const unit of new TextEncoder().encode(text)) {
    seed = Math.imul(seed ^ unit, 0x01000193);
  }
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A copy in random order (Fisher and Yates). */
function shuffled(items, random) {
  const copy = [...items];
  for (let last = copy.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [copy[last], copy[other]] = [copy[other], copy[last]];
  }
  return copy;
}

/**
 * The trials of a rater. Rounds, blocks in them, trials in these and the sides
 * of clips are in random order; a block compares all pairs once, so that whoever
 * hears only some trials hears all systems about equally often.
 */
function orderOf(rater) {
  const random = generator(`${TEST.hash} ${rater}`);
  const trials = shuffled(TEST.rounds, random).flatMap((round) =>
    shuffled(round, random).flatMap((block) => shuffled(block, random)));
  const count = TEST.trials_per_rater || trials.length;
  return trials.slice(0, count).map((trial) =>
    ({...trial, shown: shuffled(trial.clips, random)}));
}

// ---- what is kept ----

const stateKey = (rater) => `listening_test ${TEST.hash} ${rater}`;
const lastKey = `listening_test ${TEST.hash}`;

function keep() {
  try {
    localStorage.setItem(stateKey(state.rater), JSON.stringify(state));
    localStorage.setItem(lastKey, state.rater);
  } catch {
    find('warning').textContent = 'This browser keeps nothing: do not close '
      + 'or reload this page before you have saved your answers.';
  }
}

function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Goes on as a rater, where the answers end. */
function begin(rater) {
  order = orderOf(rater);
  const found = kept(stateKey(rater));
  state = found ? JSON.parse(found)
    : {rater, started: new Date().toISOString(), answers: [], draft: null};
  keep();
  find('start').hidden = true;
  find('saving').hidden = false;
  show();
}

/** Leaves the page to another rater; the answers stay. */
function leave() {
  stop();
  try {
    localStorage.removeItem(lastKey);
  } catch {
    // Nothing is kept, so nobody is remembered.
  }
  state = null;
  for (const id of ['trial', 'done', 'saving']) find(id).hidden = true;
  find('progress').textContent = '';
  find('rater').value = '';
  find('start').hidden = false;
}

// ---- a trial ----

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  return made;
}

/** Buttons lose the focus after a click, so that keys mean what they say. */
function onClick(button, action) {
  button.addEventListener('click', (event) => {
    if (event.detail > 0) button.blur();
    action();
  });
}

/**
 * Gives a player its sound. A simple file server sends whole files only, in
 * which nothing can jump: there the file is fetched first.
 */
async function load(audio, address) {
  if (location.protocol !== 'file:') {
    try {
      const reply = await fetch(address);
      if (!reply.ok) throw new Error(reply.statusText);
      audio.src = URL.createObjectURL(await reply.blob());
      return;
    } catch {
      // The player itself then says that it has nothing to play.
    }
  }
  audio.src = address;
}

function makePlayer(id, label, place) {
  const button = element('button', label, {class: 'clip', type: 'button'});
  const audio = new Audio();
  audio.preload = 'auto';
  const player = {id, audio, button, heard: 0, started: false};
  player.ready = load(audio, `audio/${id}.wav`);
  let before = 0;
  audio.addEventListener('playing', () => {
    player.started = true;
    before = audio.currentTime;
    button.classList.add('heard');
  });
  audio.addEventListener('timeupdate', () => {
    const passed = audio.currentTime - before;
    if (passed > 0 && passed < 2) player.heard += passed;
    before = audio.currentTime;
  });
  audio.addEventListener('error', () => {
    find('warning').textContent = `Clip ${label} cannot be played. Please tell `
      + `whom you have this page from: ${id}`;
  });
  onClick(button, () => play(place));
  find('clips').append(button);
  return player;
}

function play(place) {
  const player = players[place];
  if (!player) return;
  const position = !isAb && current ? current.audio.currentTime : 0;
  stop();
  current = player;
  player.ready.then(() => {
    if (current !== player) return;
    const ended = position >= player.audio.duration;
    player.audio.currentTime = ended ? 0 : position;
    resume();
  });
}

function stop() {
  for (const {audio, button} of players) {
    audio.pause();
    button.classList.remove('playing');
  }
}

function resume() {
  if (!current) return;
  current.button.classList.add('playing');
  for (const row of document.querySelectorAll('.slider')) {
    row.classList.toggle('current', row.dataset.clip === current.id);
  }
  current.audio.play().catch((error) => {
    if (error.name !== 'AbortError') say(`Cannot play: ${error.message}`);
  });
}

function say(text) {
  find('message').textContent = text;
}

/** Shows the first trial without an answer, or that there is none. */
function show() {
  stop();
  for (const {audio} of players) {
    if (audio.src.startsWith('blob:')) URL.revokeObjectURL(audio.src);
  }
  current = null;
  players = [];
  const number = state.answers.length;
  const trial = order[number];
  find('trial').hidden = !trial;
  find('done').hidden = Boolean(trial);
  find('progress').textContent = trial
    ? `${number + 1} of ${order.length}` : `${order.length} of ${order.length}`;
  find('clips').replaceChildren();
  find('scale').replaceChildren();
  say('');
  if (!trial) return;
  since = performance.now();
  find('question').textContent = TEST.question;
  find('caption').textContent = trial.caption;
  find('caption').hidden = !trial.caption;
  find('back').disabled = !number;
  if (isAb) {
    players = trial.shown.map((id, k) => makePlayer(id, 'AB'[k], k));
  } else {
    players = [trial.reference, ...trial.shown].map((id, k) =>
      makePlayer(id, k ? `${k}` : 'Reference', k));
  }
  if (!state.draft) {
    state.draft = {seconds: 0, preference: null, scores: trial.shown.map(() => null)};
  }
  drawScale(trial);
}

function drawScale(trial) {
  const scale = find('scale');
  scale.replaceChildren();
  scale.className = isAb ? 'points' : 'sliders';
  if (isAb) {
    POINTS.forEach(([value, label], k) => {
      const button = element('button', `${k + 1}: ${label}`, {
        type: 'button', role: 'radio',
        'aria-checked': String(state.draft.preference === value)});
      onClick(button, () => prefer(value));
      scale.append(button);
    });
    return;
  }
  const words = element('div', '', {class: 'words'});
  words.append(...QUALITY.map((word) => element('span', word)));
  scale.append(words);
  trial.shown.forEach((id, k) => {
    const row = element('div', '', {class: 'slider'});
    row.dataset.clip = id;
    const score = state.draft.scores[k];
    const slider = element('input', '', {
      type: 'range', min: 0, max: 100, step: 1, 'aria-label': `Score of ${k + 1}`});
    slider.value = score ?? 0;
    slider.addEventListener('input', () => setScore(k, Number(slider.value)));
    slider.addEventListener('change', () => slider.blur());
    row.append(element('span', `${k + 1}`), slider,
      element('output', score === null ? '–' : `${score}`));
    scale.append(row);
  });
}

function prefer(value) {
  state.draft.preference = value;
  keepDraft();
  drawScale(order[state.answers.length]);
  say('');
}

function setScore(place, score) {
  state.draft.scores[place] = score;
  keepDraft();
  const row = document.querySelectorAll('.slider')[place];
  row.querySelector('input').value = score;
  row.querySelector('output').textContent = score;
  say('');
}

/** Moves the score of the clip that was played last. */
function moveScore(step) {
  const place = players.indexOf(current) - 1;
  if (place < 0) {
    say('Play the clip that you want to score: 1 … 9.');
    return;
  }
  const score = (state.draft.scores[place] ?? 50) + step;
  setScore(place, Math.min(100, Math.max(0, score)));
}

function keepDraft() {
  const now = performance.now();
  state.draft.seconds += (now - since) / 1000;
  since = now;
  keep();
}

/** What is still missing from the trial on the screen, or nothing. */
function missing() {
  const silent = players.filter((player) => !player.started);
  if (silent.length) {
    const labels = silent.map((player) => player.button.textContent);
    return `Please listen first: ${labels.join(', ')}.`;
  }
  if (isAb) return state.draft.preference === null ? 'Please answer: 1 … 5.' : '';
  const open = state.draft.scores.flatMap((s, k) => (s === null ? [k + 1] : []));
  return open.length ? `Please score: ${open.join(', ')}.` : '';
}

function next() {
  const lack = missing();
  if (lack) {
    say(lack);
    return;
  }
  keepDraft();
  const trial = order[state.answers.length];
  const round = (seconds) => Math.round(seconds * 100) / 100;
  const answer = {clips: trial.shown};
  if (isAb) answer.preference = state.draft.preference;
  else answer.scores = state.draft.scores;
  answer.seconds = round(state.draft.seconds);
  const rated = isAb ? players : players.slice(1);
  answer.heard_seconds = rated.map((player) => round(player.heard));
  answer.at = new Date().toISOString();
  state.answers.push(answer);
  state.draft = null;
  keep();
  show();
}

function back() {
  const last = state.answers.pop();
  if (!last) return;
  state.draft = {
    seconds: last.seconds,
    preference: last.preference ?? null,
    scores: last.scores ?? [],
  };
  keep();
  show();
}

// ---- the file ----

function exported() {
  return {
    format: FORMAT,
    page: TEST.hash,
    kind: TEST.kind,
    rater: state.rater,
    started: state.started,
    exported: new Date().toISOString(),
    trials: order.length,
    answers: state.answers,
  };
}

function save() {
  const text = JSON.stringify(exported(), null, 1);
  const link = element('a', '');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/json'}));
  const name = state.rater.replace(/[^\p{L}\p{N}._-]+/gu, '_');
  link.download = `answers-${TEST.hash.slice(0, 8)}-${name}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// ---- keys ----

function onKey(event) {
  if (!state || event.ctrlKey || event.altKey || event.metaKey) return;
  const {key, target} = event;
  const pressesButton = target.tagName === 'BUTTON' && (key === 'Enter' || key === ' ');
  if (pressesButton) return;
  const actions = {e: save};
  if (order[state.answers.length]) {
    Object.assign(actions, {Enter: next, Backspace: back});
    actions[' '] = () => {
      if (current && !current.audio.paused) stop();
      else resume();
    };
    if (isAb) {
      actions.a = () => play(0);
      actions.b = () => play(1);
      POINTS.forEach(([value], k) => { actions[k + 1] = () => prefer(value); });
    } else {
      players.forEach((_, k) => { actions[k] = () => play(k); });
      Object.assign(actions, {
        ArrowUp: () => moveScore(1), ArrowDown: () => moveScore(-1),
        PageUp: () => moveScore(10), PageDown: () => moveScore(-10)});
    }
  }
  const action = actions[key.length === 1 ? key.toLowerCase() : key];
  if (!action) return;
  event.preventDefault();
  action();
}

function main() {
  find('introduction').textContent = TEST.introduction;
  for (const [keys, meaning] of KEYS[TEST.kind]) {
    const name = element('dt', '');
    name.append(element('kbd', keys));
    find('keys').append(name, element('dd', meaning));
  }
  onClick(find('back'), back);
  onClick(find('next'), next);
  onClick(find('export'), save);
  document.addEventListener('keydown', onKey);
  find('start').addEventListener('submit', (event) => {
    event.preventDefault();
    const rater = find('rater').value.trim();
    find('rater').blur();
    if (rater) begin(rater);
  });
  onClick(find('another'), leave);
  const given = new URLSearchParams(location.search).get('rater')?.trim();
  const rater = given || kept(lastKey);
  if (rater) begin(rater);
  else find('start').hidden = false;
}

main();
