// The scenario of SCENARIO.md through kafkajs. It brings gzip by itself and takes snappy from another package; lz4 and
// zstd need native modules and are left out. Its consumer always joins a group and cannot be told to read a
// partition directly, so there is one fetch step, as the member of a group.
'use strict'

const crypto = require('node:crypto')
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs')
const SnappyJS = require('snappyjs')

const PARTITIONS = 6
const RECORDS_PER_CODEC = 60
const FIRST_TIMESTAMP = 1700000000000
const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const TYPES = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }

const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00])
CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async encoder => Buffer.from(SnappyJS.compress(encoder.buffer)),
  decompress: async buffer => {
    if (!buffer.subarray(0, 8).equals(XERIAL)) return Buffer.from(SnappyJS.uncompress(buffer))
    const blocks = []
    for (let at = 16; at < buffer.length; ) {
      const size = buffer.readInt32BE(at)
      blocks.push(Buffer.from(SnappyJS.uncompress(buffer.subarray(at + 4, at + 4 + size))))
      at += 4 + size
    }
    return Buffer.concat(blocks)
  },
})

const [bootstrap, prefix] = process.argv.slice(2)
const kafka = new Kafka({
  clientId: 'stratalog-test',
  brokers: [bootstrap],
  logLevel: logLevel.NOTHING,
  retry: { retries: 3, initialRetryTime: 50 },
})
const admin = kafka.admin()
const topic = name => `${prefix}.${name}`

class Unsupported extends Error {}

async function attempt(step, call, more = {}) {
  const line = { step, ...more }
  try {
    line.result = (await call()) ?? null
  } catch (failure) {
    if (failure instanceof Unsupported) line.unsupported = true
    else line.error = codeOf(failure)
  }
  console.log(JSON.stringify(sorted(line)))
}

function codeOf(failure) {
  for (let each = failure; each; each = each.cause ?? each.originalError) {
    if (typeof each.code === 'number') return each.code
    if (Array.isArray(each.errors) && each.errors.length) return codeOf(each.errors[0])
    if (Array.isArray(each.partitions) && each.partitions.length) return codeOf(each.partitions[0].error ?? each.partitions[0])
  }
  return `client ${failure.name}`
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.keys(value).sort().map(key => [key, sorted(value[key])]))
}

async function create(name, numPartitions, replicationFactor, configs = {}, validateOnly = false) {
  const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
  const topics = [{ topic: name, numPartitions, replicationFactor, configEntries }]
  return { created: await admin.createTopics({ topics, validateOnly, waitForLeaders: !validateOnly }) }
}

async function describe(name) {
  const { topics } = await admin.fetchTopicMetadata({ topics: [name] })
  const partitions = topics[0].partitions.sort((a, b) => a.partitionId - b.partitionId)
  return {
    partitions: partitions.map(each => each.partitionId),
    replicas: [...new Set(partitions.map(each => each.replicas.length))],
    isr: [...new Set(partitions.map(each => each.isr.length))],
    leaders: partitions.every(each => each.leader >= 0),
  }
}

async function mine() {
  const all = await admin.listTopics()
  return all.filter(name => name.startsWith(prefix)).map(name => name.slice(prefix.length)).sort()
}

function recordsOf(codec) {
  const number = CODECS.indexOf(codec)
  return Array.from({ length: RECORDS_PER_CODEC }, (_, i) => {
    const three = String(i).padStart(3, '0')
    return {
      partition: i % PARTITIONS,
      key: `key-${three}`,
      value: `${codec} value ${three} ${'x'.repeat(7 * i)}`,
      headers: { codec, n: String(i), empty: '' },
      timestamp: String(FIRST_TIMESTAMP + 1000 * (RECORDS_PER_CODEC * number + i)),
    }
  })
}

async function send(name, codec, messages) {
  if (!(codec in TYPES)) throw new Unsupported()
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, retry: { retries: 2 } })
  await producer.connect()
  try {
    const answers = await producer.send({ topic: name, acks: -1, compression: TYPES[codec], messages })
    const offsets = answers.map(each => [String(each.partition), Number(each.baseOffset)])
    return Object.fromEntries(offsets.sort())
  } finally {
    await producer.disconnect()
  }
}

async function offsetsAt(time) {
  const found = time === undefined
    ? await admin.fetchTopicOffsets(topic('records'))
    : await admin.fetchTopicOffsetsByTimestamp(topic('records'), time)
  found.sort((a, b) => a.partition - b.partition)
  return found.map(({ partition, offset, low, high }) => ({ partition, offset, low, high }))
}

async function configsOf(names) {
  const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic('records'), configNames: names }]
  const answer = await admin.describeConfigs({ resources, includeSynonyms: true })
  return Object.fromEntries(answer.resources[0].configEntries.map(each => [each.configName, {
    value: each.configValue, source: each.configSource, default: each.isDefault, sensitive: each.isSensitive,
    'read-only': each.readOnly,
    synonyms: each.configSynonyms.map(one => `${one.configName}=${one.configValue} ${one.configSource}`),
  }]))
}

const alter = (name, value) => async () => {
  const configEntries = [{ name: 'retention.ms', value: '-1' }, ...(name ? [{ name, value }] : [])]
  const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic('records'), configEntries }]
  await admin.alterConfigs({ validateOnly: false, resources })
}

// What `look` sees once it is as expected, or after a while as it is then: a real broker answers a change before it shows it.
async function settled(look, isSettled) {
  const deadline = Date.now() + 5000
  for (;;) {
    const seen = await look()
    if (isSettled(seen) || deadline < Date.now()) return seen
    await new Promise(done => setTimeout(done, 20))
  }
}

const altered = value =>
  settled(() => configsOf(['max.message.bytes', 'retention.ms']), seen => seen['max.message.bytes'].value === value)

const deleteBefore = (name, offsets) => async () => {
  const partitions = Object.entries(offsets).map(([partition, offset]) => ({ partition: Number(partition), offset }))
  await admin.deleteTopicRecords({ topic: name, partitions })
}

const grow = count => async () => {
  await admin.createPartitions({ topicPartitions: [{ topic: topic('records'), count }] })
  await settled(() => describe(topic('records')), seen => seen.partitions.length === count)
}

async function readAll(name, count) {
  const consumer = kafka.consumer({ groupId: `${prefix}.group` })
  await consumer.connect()
  await consumer.subscribe({ topic: name, fromBeginning: true })
  const byPartition = {}
  let seen = 0
  await new Promise((done, fail) => {
    setTimeout(() => fail(new Error('timeout')), 30000).unref()
    consumer.run({
      eachMessage: async ({ partition, message }) => {
        (byPartition[partition] ??= []).push(message)
        if (++seen === count) done()
      },
    }).catch(fail)
  })
  await consumer.disconnect()
  return Object.fromEntries(Object.entries(byPartition).map(([partition, got]) => [partition, summary(got)]))
}

function summary(got) {
  const text = value => (value === null || value === undefined ? 'null' : value.toString())
  const digest = crypto.createHash('sha256')
  for (const { offset, timestamp, key, value, headers } of got) {
    const shown = Object.entries(headers ?? {}).map(([name, each]) => `${name}=${text(each)};`).join('')
    digest.update(`${offset}|${timestamp}|${text(key)}|${text(value)}|${shown}\n`)
  }
  return { count: got.length, first: got[0].offset, last: got.at(-1).offset, sha256: digest.digest('hex') }
}

async function play() {
  await admin.connect()
  const forever = { 'retention.ms': '-1' }
  await attempt('describe-cluster', async () => {
    const { brokers, controller, clusterId } = await admin.describeCluster()
    return { nodes: brokers.length, 'controller-known': controller === brokers[0].nodeId, 'cluster-id': !!clusterId }
  })
  await attempt('create-topic', () => create(topic('records'), PARTITIONS, 1, forever))
  await attempt('create-topic-again', () => create(topic('records'), PARTITIONS, 1, forever))
  await attempt('create-topic-bad-name', () => create(`${prefix} bad/name`, 1, 1))
  await attempt('create-topic-unknown-config', () => create(topic('x'), 1, 1, { 'no.such.config': '1' }))
  await attempt('create-topic-bad-config', () => create(topic('x'), 1, 1, { 'retention.ms': 'soon' }))
  await attempt('create-topic-no-partitions', () => create(topic('x'), 0, 1))
  await attempt('create-topic-two-replicas', () => create(topic('x'), 1, 2))
  await attempt('create-topic-validate-only', () => create(topic('x'), 1, 1, {}, true))
  await attempt('created-by-validate-only', async () => (await mine()).includes('.x'))
  await attempt('create-topic-defaults', () => create(topic('defaults'), -1, -1))
  await attempt('describe-topic', () => describe(topic('records')))
  await attempt('describe-unknown-topic', () => describe(topic('unknown')))
  await attempt('create-more', () => create(topic('small'), 1, 1, { ...forever, 'max.message.bytes': '1000' }))
  await attempt('create-more', () => create(topic('compacted'), 1, 1, { 'cleanup.policy': 'compact' }))

  for (const codec of CODECS) {
    await attempt('produce', () => send(topic('records'), codec, recordsOf(codec)), { codec })
  }
  const at = each => String(FIRST_TIMESTAMP + each)
  await attempt('produce-nulls', () => send(topic('small'), 'none', [
    { partition: 0, key: null, value: 'no key', timestamp: at(0) },
    { partition: 0, key: 'no value', value: null, timestamp: at(1) },
    { partition: 0, key: '', value: '', timestamp: at(2) },
  ]))
  await attempt('produce-too-large', () => send(topic('small'), 'none', [{ partition: 0, key: 'k', value: 'y'.repeat(2000) }]))
  await attempt('produce-keyless-to-compacted', () => send(topic('compacted'), 'none', [{ partition: 0, key: null, value: 'v' }]))
  await attempt('produce-keyed-to-compacted', () => send(topic('compacted'), 'none', [{ partition: 0, key: 'k', value: 'v' }]))
  await attempt('produce-auto-created', () => send(topic('auto'), 'none', [{ partition: 0, key: 'k', value: 'v' }]))

  await attempt('list-offsets', () => offsetsAt(), { position: 'earliest and latest' })
  await attempt('offsets-for-time', () => offsetsAt(FIRST_TIMESTAMP + 90500), { time: 'between' })
  await attempt('fetch-with-group', () => readAll(topic('records'), 180))

  await attempt('delete-records', deleteBefore(topic('records'), { 0: '10', 1: '-1' }))
  await attempt('delete-records-beyond-end', deleteBefore(topic('records'), { 2: '51' }))
  await attempt('list-offsets-after-delete', () => offsetsAt(), { position: 'earliest and latest' })
  await attempt('create-partitions', grow(8))
  await attempt('create-partitions-same', grow(8))
  await attempt('create-partitions-fewer', grow(3))
  await attempt('describe-topic-grown', () => describe(topic('records')))

  await attempt('describe-configs', () => configsOf())
  await attempt('alter-configs', alter('max.message.bytes', '2000000'))
  await attempt('describe-configs-altered', () => altered('2000000'))
  await attempt('alter-configs-unknown', alter('no.such.config', '1'))
  await attempt('alter-configs-bad', alter('cleanup.policy', 'burn'))
  await attempt('alter-configs-delete', alter())
  await attempt('describe-configs-restored', () => altered('1048588'))

  for (const name of ['records', 'small', 'compacted', 'auto', 'defaults', 'unknown']) {
    await attempt('delete-topic', () => admin.deleteTopics({ topics: [topic(name)] }), { topic: name })
  }
  await attempt('list-topics', () => settled(mine, seen => seen.length === 0))
  await admin.disconnect()
}

play().catch(failure => {
  console.error(failure)
  process.exit(1)
})
