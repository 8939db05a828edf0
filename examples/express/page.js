// SPDX-License-Identifier: PostgreSQL
//
// The page, as text. It works without scripts.
'use strict';

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text) => String(text).replace(/[&<>"']/g, (c) => ENTITIES[c]);

const STYLE = `
  :root { color-scheme: light dark; --line: #8886; --bad: #b3261e; --good: #1b6e3c; }
  @media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7fd6a0; } }
  body { font: 1.05rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
  form { display: flex; flex-wrap: wrap; gap: .6rem; align-items: end; }
  label { display: grid; gap: .2rem; } input { font: inherit; padding: .4rem .6rem; min-width: 16rem; }
  button { font: inherit; padding: .45rem 1rem; cursor: pointer; }
  [role=status] { border-left: .35rem solid var(--line); padding: .5rem .8rem; margin: 1.2rem 0; min-height: 1.5em; }
  [role=status].stale { border-color: var(--bad); color: var(--bad); } [role=status].fresh { border-color: var(--good); color: var(--good); }
  table { border-collapse: collapse; width: 100%; } caption { text-align: left; padding-bottom: .3rem; }
  th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
  td.n { text-align: right; font-variant-numeric: tabular-nums; } th.n { text-align: right; }
  nav a { margin-right: 1rem; } nav a[aria-current] { font-weight: 700; text-decoration: none; color: inherit; }
  small { opacity: .8; }`;

function verdict({ saved, stale, people }) {
  const you = people[0];
  if (saved === null) return '<p role="status">Change the name and press the button.</p>';
  if (!stale) return `<p role="status" class="fresh">Saved. This page shows what you saved, version ${saved}.</p>`;
  return `<p role="status" class="stale">Stale: you saved version ${saved}, and this page shows version ${escape(you.version)},
    “${escape(you.name)}”.</p>`;
}

const MODES = { off: 'Without: any standby', token: 'With a token', session: 'With a named session in Redis' };

const modeLink = (mode, current) =>
  `<a href="/?tidemark=${mode}"${mode === current ? ' aria-current="page"' : ''}>${MODES[mode]}</a>`;

const counterRow = (mode, { pages, stale }) =>
  `<tr><th scope="row">${MODES[mode]}</th><td class="n" id="${mode}-pages">${pages}</td><td class="n" id="${mode}-stale">${stale}</td></tr>`;

const personRow = (p, i) =>
  `<tr><td>${escape(p.name)}${i === 0 ? ' <small>(you)</small>' : ''}</td><td class="n">${escape(p.version)}</td></tr>`;

function page(view) {
  const { mode, people, counters, instance } = view;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Your profile</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>Your profile</h1>
<nav aria-label="How this page reads">${Object.keys(MODES).map((m) => modeLink(m, mode)).join(' ')}</nav>
${verdict(view)}
<form method="post" action="/">
  <input type="hidden" name="tidemark" value="${mode}">
  <label>Name <input name="name" value="${escape(people[0].name)}" maxlength="60" required autocomplete="off"></label>
  <button>Save, then refresh</button>
</form>
<h2>Stale pages</h2>
<table>
  <caption>Pages that followed a save of yours</caption>
  <thead><tr><th scope="col"></th><th scope="col" class="n">pages</th><th scope="col" class="n">stale</th></tr></thead>
  <tbody>${Object.keys(MODES).map((m) => counterRow(m, counters[m])).join('')}</tbody>
</table>
<h2>Everybody</h2>
<table>
  <caption>All profiles</caption>
  <thead><tr><th scope="col">name</th><th scope="col" class="n">version</th></tr></thead>
  <tbody>${people.map(personRow).join('')}</tbody>
</table>
<p><small>Answered by instance <b>${escape(instance)}</b>, which read on <b id="node">${escape(people[0].node)}</b>.</small></p>
</main>
</body>
</html>
`;
}

module.exports = { page };
