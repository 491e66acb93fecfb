// A member of a group through kafkajs, which has the classic protocol only: BOOTSTRAP GROUP TOPIC NAME PROTOCOL. One JSON
// object per line and system call says what happens; SIGTERM makes it leave.
'use strict'

const fs = require('node:fs')
const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, groupId, topic, name] = process.argv.slice(2)
const RECORDS_PER_LINE = 100

const kafka = new Kafka({
  clientId: 'stratalog-test',
  brokers: [bootstrap],
  logLevel: logLevel.NOTHING,
  retry: { retries: 8, initialRetryTime: 50, maxRetryTime: 500, restartOnFailure: async () => true },
})
const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, maxWaitTimeInMs: 50 })

function say(event, more) {
  fs.writeSync(1, JSON.stringify({ member: name, event, ...more }) + '\n')
}

function lose() {
  say('owned', { partitions: [] })
}

const { GROUP_JOIN, REBALANCING, DISCONNECT, CRASH } = consumer.events
consumer.on(GROUP_JOIN, ({ payload }) =>
  say('owned', { partitions: [...(payload.memberAssignment[topic] ?? [])].sort((a, b) => a - b) }))
consumer.on(REBALANCING, lose)
consumer.on(DISCONNECT, lose)
consumer.on(CRASH, ({ payload }) => {
  console.error('crash', payload.restart, payload.error)
  // A broker that goes while it is asked for the coordinator is the end of a consumer, whatever `restartOnFailure` says: it is for the
  // application to run it again.
  if (!payload.restart) start()
})

async function eachBatch({ batch, resolveOffset, heartbeat, isRunning, isStale }) {
  if (!isRunning() || isStale()) return
  const records = batch.messages.map(message => [batch.partition, Number(message.offset)])
  if (records.length === 0) return
  for (let at = 0; at < records.length; at += RECORDS_PER_LINE) {
    say('records', { records: records.slice(at, at + RECORDS_PER_LINE) })
  }
  const end = records[records.length - 1][1] + 1
  resolveOffset(String(end - 1))
  try {
    await consumer.commitOffsets([{ topic, partition: batch.partition, offset: String(end) }])
    say('committed', { offsets: [[batch.partition, end]] })
  } catch (failure) {
    say('refused', { text: String(failure) })
    throw failure
  }
  await heartbeat()
}

async function main() {
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ autoCommit: false, eachBatch })
}

process.on('SIGTERM', async () => {
  await consumer.disconnect()
  process.exit(0)
})
function start() {
  main().catch(failure => {
    console.error(failure)
    process.exit(1)
  })
}

start()
