// What the clients in JavaScript have in common: cases by name, each with a deadline, each ending in one line of JSON.
// NODE FILE MODULES BOOTSTRAP NAME CASE…

import { createRequire } from 'node:module'

export const ALLOWED = 't1'
export const FORBIDDEN = 'secret'
const PATIENCE_MS = 6000
const DEADLINE_MS = 25000
const [modules, address, name, ...wanted] = process.argv.slice(2)

export const load = createRequire(`${modules}/`)
export const bootstrap = address
export const unique = name

export const pause = ms => new Promise(resolve => setTimeout(resolve, ms))

// What `work` resolves to, or "timeout".
export function within (work, ms) {
  return Promise.race([work, pause(ms).then(() => 'timeout')])
}

// "ok", or the name of the error.
export async function attempt (work, name, ms = 10000) {
  try {
    return (await within(work(), ms)) === 'timeout' ? 'timeout' : 'ok'
  } catch (error) {
    return name(error)
  }
}

export async function oneByOne (topics, send) {
  const told = []
  for (const topic of topics) told.push(await send(topic))
  return told.join(', ')
}

// Without the broker's own, and those that others make and delete meanwhile.
export const visible = topics => topics.filter(topic => !/^(__|new-)/.test(topic)).sort().join(', ')

// Until every topic has shown something, or patience ends: for what should come there is more of it.
export async function gathered (seen, topics, count = topics.length) {
  const deadline = Date.now() + PATIENCE_MS * (topics.includes(ALLOWED) ? 2 : 1)
  while (seen.size < count && Date.now() < deadline) await pause(50)
}

export const words = seen => [...seen].sort().join(', ') || 'nothing'

export async function run (cases, name) {
  process.on('uncaughtException', error => console.error('uncaught', error))
  process.on('unhandledRejection', error => console.error('unhandled', error))
  for (const wish of wanted) {
    let outcome = '-'
    if (cases[wish]) outcome = await within(cases[wish]().catch(name), DEADLINE_MS)
    console.log(JSON.stringify({ case: wish, outcome }))
  }
  process.exit(0)
}
