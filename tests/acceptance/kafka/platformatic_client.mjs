// @platformatic/kafka

import {
  ALLOWED, FORBIDDEN, attempt, bootstrap, gathered, load, oneByOne, run, unique, visible, words
} from './outcomes.mjs'

const { Admin, Consumer, Producer } = load('@platformatic/kafka')

const base = {
  clientId: 'platformatic', bootstrapBrokers: [bootstrap], retries: 2, retryDelay: 100, timeout: 5000,
  connectTimeout: 3000, autocreateTopics: false
}

// The broker's word, which is somewhere in a tree of errors; else the client's own.
function name (error) {
  return theirs(error) ?? error.code ?? error.name
}

function theirs (error) {
  if (!error) return undefined
  if (error.apiId) return error.apiId
  for (const inner of [...(error.errors ?? []), error.cause]) {
    const found = theirs(inner)
    if (found) return found
  }
}

const record = topic => ({ topic, value: Buffer.from('hello'), partition: 0 })

function produce (topics, { together = false, ...settings } = {}) {
  return async () => {
    const producer = new Producer({ ...base, ...settings })
    const send = topic => attempt(() => producer.send({ messages: [record(topic)], ...settings }), name)
    const told = together ? (await Promise.all(topics.map(send))).join(', ') : await oneByOne(topics, send)
    await attempt(() => producer.close(true), name)
    return told
  }
}

// One call for several topics.
async function batch () {
  const producer = new Producer(base)
  const told = await attempt(() => producer.send({ messages: [ALLOWED, FORBIDDEN].map(record) }), name)
  await attempt(() => producer.close(true), name)
  return told
}

function transaction (topic) {
  return async () => {
    const producer = new Producer({ ...base, idempotent: true, transactionalId: `txn-${topic}-${unique}` })
    let current
    const told = [await attempt(async () => { current = await producer.beginTransaction() }, name)]
    if (current) {
      told.push(await attempt(() => current.send({ messages: [record(topic)] }), name))
      const done = told.every(word => word === 'ok')
      told.push(await attempt(() => (done ? current.commit() : current.abort()), name))
    }
    await attempt(() => producer.close(true), name)
    return told.join(', ')
  }
}

// Which topics gave records, which errors came, and what became of the commit.
function consume (topics, { groupProtocol = 'classic', commit = true } = {}) {
  return async () => {
    const groupId = `${groupProtocol}-${topics.join('-')}-${unique}`
    const consumer = new Consumer({ ...base, groupId, groupProtocol, maxWaitTime: 300 })
    const seen = new Set()
    const started = await attempt(async () => {
      const stream = await consumer.consume({ topics, mode: 'earliest', autocommit: false })
      stream.on('data', message => {
        if (!seen.has(message.topic)) {
          seen.add(message.topic)
          if (commit) attempt(() => message.commit(), name).then(word => seen.add('commit ' + word))
        }
      })
      stream.on('error', error => seen.add(name(error)))
    }, name)
    if (started !== 'ok') seen.add(started)
    await gathered(seen, topics, topics.length + (commit && started === 'ok' ? 1 : 0))
    await attempt(() => consumer.close(true), name)
    return words(seen)
  }
}

function admin (ask) {
  return async () => {
    const client = new Admin(base)
    try {
      const told = await ask(client)
      return typeof told === 'string' ? told : 'ok'
    } finally {
      await attempt(() => client.close(), name)
    }
  }
}

const fresh = `new-${unique}`
const configs = topic => admin(client => client.describeConfigs({ resources: [{ resourceType: 2, resourceName: topic }] }))
const describe = topic => admin(client => client.metadata({ topics: [topic], autocreateTopics: false }))
const offsets = topic => admin(client => client.listOffsets({
  topics: [{ name: topic, partitions: [{ partitionIndex: 0, timestamp: -1n }] }]
}))

await run({
  'produce allowed': produce([ALLOWED]),
  'produce forbidden': produce([FORBIDDEN]),
  'produce one by one': produce([ALLOWED, FORBIDDEN, ALLOWED]),
  'produce together': produce([ALLOWED, FORBIDDEN, ALLOWED], { together: true }),
  'produce one batch': batch,
  'produce acks 0': produce([ALLOWED, FORBIDDEN, ALLOWED], { acks: 0 }),
  'produce idempotent': produce([ALLOWED], { idempotent: true }),
  transaction: transaction(ALLOWED),
  'transaction forbidden': transaction(FORBIDDEN),
  'consume allowed': consume([ALLOWED]),
  'consume forbidden': consume([FORBIDDEN]),
  'consume both': consume([ALLOWED, FORBIDDEN], { commit: false }),
  'group protocol allowed': consume([ALLOWED], { groupProtocol: 'consumer' }),
  'group protocol forbidden': consume([FORBIDDEN], { groupProtocol: 'consumer' }),
  'list topics': admin(async client => visible(await client.listTopics())),
  'create topic': admin(client => client.createTopics({ topics: [fresh], partitions: 1, replicas: 1 })),
  'delete topic': admin(client => client.deleteTopics({ topics: [fresh] })),
  'delete allowed': admin(client => client.deleteTopics({ topics: [ALLOWED] })),
  'describe allowed': describe(ALLOWED),
  'describe forbidden': describe(FORBIDDEN),
  'configs allowed': configs(ALLOWED),
  'configs forbidden': configs(FORBIDDEN),
  'offsets allowed': offsets(ALLOWED),
  'offsets forbidden': offsets(FORBIDDEN)
}, name)
