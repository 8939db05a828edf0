// SPDX-License-Identifier: PostgreSQL
//
// Presses the button of examples/express in a headless Chromium. Prints a line of JSON.
//
//   NODE_PATH=.deps/node_modules node express_browser.js URL PRESSES [SCREENSHOT]
'use strict';

const { chromium } = require('playwright-core');

const [url, presses, screenshot] = process.argv.slice(2);

const LIMIT_MS = 10000;

// Everything that is asked of the page is what a person sees on it.
async function press(page, name) {
  await page.getByLabel('Name').fill(name);
  await page.getByRole('button', { name: 'Save, then refresh' }).click();
  const status = await page.getByRole('status').innerText();
  const shown = await page.getByLabel('Name').inputValue();
  const listed = await page.getByRole('table').nth(1).getByRole('row').nth(1).innerText();
  return { stale: shown !== name, said: status.startsWith('Stale'), listed: listed.includes(name), node: await page.locator('#node').innerText() };
}

async function visit(page, link, mode) {
  await page.getByRole('link', { name: link }).click();
  const count = { pages: 0, stale: 0, lies: 0, onReplicas: 0 };
  for (let i = 0; i < presses; i++) {
    const saw = await press(page, `${mode} <b>"${i}"</b> & ${Math.random().toString(36).slice(2, 8)}`);
    count.pages++;
    if (saw.stale) count.stale++;
    if (saw.said !== saw.stale || saw.listed === saw.stale) count.lies++;
    if (saw.node !== 'primary') count.onReplicas++;
  }
  const cell = async (id) => Number(await page.locator(`#${mode}-${id}`).innerText());
  count.shownPages = await cell('pages');
  count.shownStale = await cell('stale');
  return count;
}

async function main() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
  try {
    const page = await browser.newPage({ viewport: { width: 900, height: 900 } });
    page.setDefaultTimeout(LIMIT_MS);
    const faults = [];
    page.on('console', (m) => m.type() === 'error' && faults.push(m.text()));
    page.on('pageerror', (e) => faults.push(String(e)));
    const first = await page.goto(url);
    const headers = first.headers();
    const off = await visit(page, 'Without: any standby', 'off');
    const token = await visit(page, 'With a token', 'token');
    const named = await visit(page, 'With a named session in Redis', 'session');
    if (screenshot) await page.screenshot({ path: screenshot });
    const cookies = (await page.context().cookies()).filter((c) => c.name.startsWith('tidemark'));
    const visible = await page.evaluate(() => document.cookie);
    console.log(JSON.stringify({ off, token, named, faults, cacheControl: headers['cache-control'], cookies, visible }));
  } finally {
    await browser.close();
  }
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
