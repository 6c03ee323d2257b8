// kafkajs

import {
  ALLOWED, FORBIDDEN, attempt, bootstrap, gathered, load, oneByOne, run, unique, visible, words
} from './outcomes.mjs'

const { Kafka, logLevel } = load('kafkajs')

const kafka = new Kafka({
  clientId: 'kafkajs',
  brokers: [bootstrap],
  logLevel: logLevel.ERROR,
  requestTimeout: 5000,
  retry: { retries: 2, initialRetryTime: 100 }
})

function name (error) {
  return error.type ?? error.errors?.[0]?.type ?? error.cause?.type ?? error.name
}

const messages = [{ value: 'hello', partition: 0 }]

function produce (topics, { acks = -1, ...settings } = {}) {
  return async () => {
    const producer = kafka.producer({ allowAutoTopicCreation: false, ...settings })
    await producer.connect()
    const send = topic => attempt(() => producer.send({ topic, acks, messages }), name)
    const told = await oneByOne(topics, send)
    await attempt(() => producer.disconnect(), name)
    return told
  }
}

// One request for several topics.
async function batch () {
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  await producer.connect()
  const topicMessages = [ALLOWED, FORBIDDEN].map(topic => ({ topic, messages }))
  const told = await attempt(() => producer.sendBatch({ topicMessages }), name)
  await attempt(() => producer.disconnect(), name)
  return told
}

function transaction (topic, offsets) {
  return async () => {
    const producer = kafka.producer({
      allowAutoTopicCreation: false, transactionalId: `txn-${topic}-${offsets}-${unique}`, transactionTimeout: 9000, maxInFlightRequests: 1,
      idempotent: true
    })
    let current
    const told = [await attempt(() => producer.connect(), name)]
    if (told[0] === 'ok') told.push(await attempt(async () => { current = await producer.transaction() }, name))
    if (current) {
      told.push(await attempt(() => current.send({ topic, messages }), name))
      if (offsets && told.every(word => word === 'ok')) {
        const topics = [{ topic, partitions: [{ partition: 0, offset: '1' }] }]
        told.push(await attempt(() => current.sendOffsets({ consumerGroupId: `txn-${unique}`, topics }), name))
      }
      const done = told.every(word => word === 'ok')
      told.push(await attempt(() => (done ? current.commit() : current.abort()), name))
    }
    await attempt(() => producer.disconnect(), name)
    return told.join(', ')
  }
}

// Which topics gave records, which errors came, and what became of the commit.
function consume (topics, commit = true) {
  return async () => {
    const consumer = kafka.consumer({
      groupId: `classic-${topics.join('-')}-${unique}`, allowAutoTopicCreation: false, maxWaitTimeInMs: 300
    })
    const seen = new Set()
    consumer.on(consumer.events.CRASH, event => seen.add(name(event.payload.error)))
    await consumer.connect()
    const started = await attempt(async () => {
      await consumer.subscribe({ topics, fromBeginning: true })
      await consumer.run({ autoCommit: false, eachMessage: async ({ topic }) => { seen.add(topic) } })
    }, name)
    if (started !== 'ok') seen.add(started)
    await gathered(seen, topics)
    if (commit && seen.has(topics[0])) {
      const at = [{ topic: topics[0], partition: 0, offset: '1' }]
      seen.add('commit ' + await attempt(() => consumer.commitOffsets(at), name))
    }
    await attempt(() => consumer.disconnect(), name)
    return words(seen)
  }
}

function admin (ask) {
  return async () => {
    const client = kafka.admin()
    await client.connect()
    try {
      const told = await ask(client)
      return typeof told === 'string' ? told : 'ok'
    } finally {
      await attempt(() => client.disconnect(), name)
    }
  }
}

const fresh = `new-${unique}`
const configs = topic => admin(client => client.describeConfigs({ resources: [{ type: 2, name: topic }] }))

await run({
  'produce allowed': produce([ALLOWED]),
  'produce forbidden': produce([FORBIDDEN]),
  'produce one by one': produce([ALLOWED, FORBIDDEN, ALLOWED]),
  // Not "produce together": all fail, or some, by who asks for the topics first.
  'produce one batch': batch,
  'produce acks 0': produce([ALLOWED, FORBIDDEN, ALLOWED], { acks: 0 }),
  'produce idempotent': produce([ALLOWED], { idempotent: true, maxInFlightRequests: 1 }),
  transaction: transaction(ALLOWED, false),
  'transaction with offsets': transaction(ALLOWED, true),
  'transaction forbidden': transaction(FORBIDDEN, false),
  'consume allowed': consume([ALLOWED]),
  'consume forbidden': consume([FORBIDDEN]),
  'consume both': consume([ALLOWED, FORBIDDEN], false),
  'list topics': admin(async client => visible(await client.listTopics())),
  'create topic': admin(client => client.createTopics({ topics: [{ topic: fresh, numPartitions: 1 }] })),
  'delete topic': admin(client => client.deleteTopics({ topics: [fresh] })),
  'delete allowed': admin(client => client.deleteTopics({ topics: [ALLOWED] })),
  'describe allowed': admin(client => client.fetchTopicMetadata({ topics: [ALLOWED] })),
  'describe forbidden': admin(client => client.fetchTopicMetadata({ topics: [FORBIDDEN] })),
  'configs allowed': configs(ALLOWED),
  'configs forbidden': configs(FORBIDDEN),
  'offsets allowed': admin(client => client.fetchTopicOffsets(ALLOWED)),
  'offsets forbidden': admin(client => client.fetchTopicOffsets(FORBIDDEN))
}, name)
