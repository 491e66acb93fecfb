// The scenario of SCENARIO.md through sarama, idempotent. A third argument sets the Kafka version that sarama assumes,
// which decides the request versions it sends; without it sarama's default counts.
package main

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"stratalog.test/clients/scenario"
)

const patience = 30 * time.Second

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

type player struct {
	bootstrap, prefix                          string
	records, small, compacted, stamped, unmade string
	version                                    sarama.KafkaVersion
	admin                                      sarama.ClusterAdmin
	out                                        scenario.Transcript
}

func main() {
	bootstrap, prefix := os.Args[1], os.Args[2]
	p := player{
		bootstrap: bootstrap, prefix: prefix, version: sarama.DefaultVersion,
		records: prefix + ".records", small: prefix + ".small", compacted: prefix + ".compacted",
		stamped: prefix + ".append-time", unmade: prefix + ".x", out: scenario.Transcript{CodeOf: codeOf},
	}
	if len(os.Args) > 3 {
		version, err := sarama.ParseKafkaVersion(os.Args[3])
		must(err)
		p.version = version
	}
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, p.config())
	must(err)
	defer admin.Close()
	p.admin = admin
	p.play()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (p player) config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = p.version
	config.Net.MaxOpenRequests = 1
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Consumer.Return.Errors = true
	config.Metadata.AllowAutoTopicCreation = false
	return config
}

func codeOf(err error) (int16, bool) {
	var code sarama.KError
	if errors.As(err, &code) {
		return int16(code), true
	}
	var topic *sarama.TopicError
	if errors.As(err, &topic) {
		return int16(topic.Err), true
	}
	// DeleteRecords joins the errors of its partitions as text.
	for code := range sarama.KError(120) {
		if code > 0 && strings.Contains(err.Error(), code.Error()) {
			return int16(code), true
		}
	}
	return 0, false
}

func (p player) play() {
	p.out.Attempt("describe-cluster", func() (any, error) {
		brokers, controller, err := p.admin.DescribeCluster()
		if err != nil {
			return nil, err
		}
		return map[string]any{"nodes": len(brokers), "controller-known": controller == brokers[0].ID()}, nil
	})
	p.create()
	p.produce()
	p.fetch()
	p.listOffsets("list-offsets")
	p.deleteRecords()
	p.createPartitions()
	p.configs()
	p.delete()
}

func (p player) create() {
	forever := map[string]string{"retention.ms": "-1"}
	try := func(step, topic string, partitions int32, replicas int16, configs map[string]string) {
		p.out.Attempt(step, func() (any, error) { return nil, p.createTopic(topic, partitions, replicas, configs, false) })
	}
	try("create-topic", p.records, scenario.Partitions, 1, forever)
	try("create-topic-again", p.records, scenario.Partitions, 1, forever)
	try("create-topic-bad-name", p.prefix+" bad/name", 1, 1, nil)
	try("create-topic-unknown-config", p.unmade, 1, 1, map[string]string{"no.such.config": "1"})
	try("create-topic-bad-config", p.unmade, 1, 1, map[string]string{"retention.ms": "soon"})
	try("create-topic-no-partitions", p.unmade, 0, 1, nil)
	try("create-topic-two-replicas", p.unmade, 1, 2, nil)
	p.out.Attempt("create-topic-validate-only", func() (any, error) {
		return nil, p.createTopic(p.unmade, 1, 1, nil, true)
	})
	p.out.Attempt("created-by-validate-only", func() (any, error) {
		topics, err := p.topics()
		return strings.Contains(strings.Join(topics, " "), ".x"), err
	})
	try("create-topic-defaults", p.prefix+".defaults", -1, -1, nil)
	p.out.Attempt("describe-topic", func() (any, error) { return p.describe(p.records) })
	p.out.Attempt("describe-unknown-topic", func() (any, error) { return p.describe(p.prefix + ".unknown") })
	try("create-more", p.small, 1, 1, map[string]string{"retention.ms": "-1", "max.message.bytes": "1000"})
	try("create-more", p.compacted, 1, 1, map[string]string{"cleanup.policy": "compact"})
	try("create-more", p.stamped, 1, 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
}

func (p player) createTopic(topic string, partitions int32, replicas int16, configs map[string]string, dry bool) error {
	detail := sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: replicas, ConfigEntries: map[string]*string{}}
	for name, value := range configs {
		detail.ConfigEntries[name] = &value
	}
	if err := p.admin.CreateTopic(topic, &detail, dry); err != nil {
		return err
	}
	for !dry {
		if _, err := p.describe(topic); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

func (p player) describe(topic string) (any, error) {
	topics, err := p.admin.DescribeTopics([]string{topic})
	if err != nil {
		return nil, err
	}
	found := topics[0]
	if found.Err != sarama.ErrNoError {
		return nil, found.Err
	}
	sort.Slice(found.Partitions, func(a, b int) bool { return found.Partitions[a].ID < found.Partitions[b].ID })
	partitions, replicas, isr := []int32{}, map[int]int{}, map[int]int{}
	for _, one := range found.Partitions {
		if one.Err != sarama.ErrNoError {
			return nil, one.Err
		}
		partitions = append(partitions, one.ID)
		replicas[len(one.Replicas)]++
		isr[len(one.Isr)]++
	}
	return map[string]any{"partitions": partitions, "replicas": replicas, "isr": isr, "internal": found.IsInternal}, nil
}

func (p player) topics() ([]string, error) {
	found, err := p.admin.ListTopics()
	names := []string{}
	for name := range found {
		if strings.HasPrefix(name, p.prefix) {
			names = append(names, strings.TrimPrefix(name, p.prefix))
		}
	}
	sort.Strings(names)
	return names, err
}

func (p player) produce() {
	for _, codec := range scenario.Codecs {
		p.out.Attempt("produce", func() (any, error) {
			sent, err := p.send(codec, scenario.RecordsOf(p.records, codec))
			return scenario.Ranges(sent), err
		}, "codec", codec)
	}
	at := scenario.FirstTimestamp
	one := func(step string, records ...scenario.Record) {
		p.out.Attempt(step, func() (any, error) {
			sent, err := p.send("none", records)
			return scenario.Offsets(sent), err
		})
	}
	one("produce-nulls",
		scenario.Record{Topic: p.small, Value: []byte("no key"), Timestamp: at,
			Headers: []scenario.Header{{Name: "h", Value: nil}}},
		scenario.Record{Topic: p.small, Key: []byte("no value"), Timestamp: at + 1},
		scenario.Record{Topic: p.small, Key: []byte{}, Value: []byte{}, Timestamp: at + 2})
	large := []byte(strings.Repeat("y", 2000))
	one("produce-too-large", scenario.Record{Topic: p.small, Key: []byte("k"), Value: large, Timestamp: at})
	one("produce-keyless-to-compacted", scenario.Record{Topic: p.compacted, Value: []byte("v")})
	one("produce-keyed-to-compacted", scenario.Record{Topic: p.compacted, Key: []byte("k"), Value: []byte("v")})
	p.out.Attempt("produce-append-time", func() (any, error) {
		sent, err := p.send("none", []scenario.Record{{Topic: p.stamped, Key: []byte("k"), Value: []byte("v"), Timestamp: at}})
		if err != nil {
			return nil, err
		}
		read, err := p.read(p.stamped, 0, 0, 1)
		if err != nil {
			return nil, err
		}
		return map[string]any{"offset": sent[0].Offset, "recent": read[0].Timestamp > at+30_000_000_000}, nil
	})
	one("produce-auto-created", scenario.Record{Topic: p.prefix + ".auto", Key: []byte("k"), Value: []byte("v")})
}

func encoder(bytes []byte) sarama.Encoder {
	if bytes == nil {
		return nil
	}
	return sarama.ByteEncoder(bytes)
}

func (p player) send(codec string, records []scenario.Record) ([]scenario.Record, error) {
	config := p.config()
	config.Producer.Compression = codecs[codec]
	config.Metadata.AllowAutoTopicCreation = true
	producer, err := sarama.NewSyncProducer([]string{p.bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	var asked []*sarama.ProducerMessage
	for _, record := range records {
		one := &sarama.ProducerMessage{Topic: record.Topic, Partition: record.Partition,
			Key: encoder(record.Key), Value: encoder(record.Value)}
		if record.Timestamp != 0 {
			one.Timestamp = time.UnixMilli(record.Timestamp)
		}
		for _, header := range record.Headers {
			one.Headers = append(one.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
		}
		asked = append(asked, one)
	}
	if err := producer.SendMessages(asked); err != nil {
		var each sarama.ProducerErrors
		if errors.As(err, &each) {
			return nil, each[0].Err
		}
		return nil, err
	}
	var sent []scenario.Record
	for _, one := range asked {
		sent = append(sent, scenario.Record{Topic: one.Topic, Partition: one.Partition, Offset: one.Offset})
	}
	return sent, nil
}

func (p player) read(topic string, partition int32, offset int64, count int) ([]scenario.Record, error) {
	consumer, err := sarama.NewConsumer([]string{p.bootstrap}, p.config())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	stream, err := consumer.ConsumePartition(topic, partition, offset)
	if err != nil {
		return nil, err
	}
	defer stream.AsyncClose()
	var got []scenario.Record
	for len(got) < count {
		select {
		case failure := <-stream.Errors():
			return nil, failure.Err
		case <-time.After(patience):
			return nil, errors.New("timeout")
		case message := <-stream.Messages():
			one := scenario.Record{Topic: topic, Partition: partition, Offset: message.Offset,
				Timestamp: message.Timestamp.UnixMilli(), Key: message.Key, Value: message.Value}
			for _, header := range message.Headers {
				one.Headers = append(one.Headers, scenario.Header{Name: string(header.Key), Value: header.Value})
			}
			got = append(got, one)
		}
	}
	return got, nil
}

func (p player) show(step, topic string, partition int32, offset int64, count int) {
	p.out.Attempt(step, func() (any, error) {
		got, err := p.read(topic, partition, offset, count)
		return scenario.Summary(got), err
	}, "partition", partition)
}

func (p player) fetch() {
	for partition := range int32(scenario.Partitions) {
		p.show("fetch-from-start", p.records, partition, 0, 50)
	}
	for partition := range int32(scenario.Partitions) {
		p.show("fetch-from-middle", p.records, partition, 25, 25)
	}
	first := scenario.FirstTimestamp
	last := first + 1000*int64(scenario.RecordsPerCodec*len(scenario.Codecs)-1)
	for _, time := range []struct {
		name string
		at   int64
	}{{"before", first - 1}, {"exact", first + 150_000}, {"between", first + 149_500}, {"last", last}, {"after", last + 1}} {
		p.out.Attempt("offsets-for-time", func() (any, error) { return p.offsets(time.at) }, "time", time.name)
	}
	for partition := range int32(scenario.Partitions) {
		p.show("fetch-from-time", p.records, partition, 25, 25)
	}
	p.show("fetch-nulls", p.small, 0, 0, 3)
	p.show("fetch-out-of-range", p.records, 0, 51, 1)
}

func (p player) offsets(time int64) (any, error) {
	asked := map[int32]int64{}
	for partition := range int32(scenario.Partitions) {
		asked[partition] = time
	}
	found, err := p.admin.ListOffsets(map[string]map[int32]int64{p.records: asked}, nil)
	if err != nil {
		return nil, err
	}
	offsets := map[string][]int64{}
	for partition, one := range found[p.records] {
		if one.Err != sarama.ErrNoError {
			return nil, one.Err
		}
		offsets[fmt.Sprint(partition)] = []int64{one.Offset, one.Timestamp, int64(one.LeaderEpoch)}
	}
	return offsets, nil
}

func (p player) listOffsets(step string) {
	for _, position := range []struct {
		name string
		time int64
	}{{"earliest", sarama.OffsetOldest}, {"latest", sarama.OffsetNewest}, {"max-timestamp", -3}} {
		p.out.Attempt(step, func() (any, error) { return p.offsets(position.time) }, "position", position.name)
	}
}

func (p player) deleteRecords() {
	try := func(step, topic string, before map[int32]int64) {
		p.out.Attempt(step, func() (any, error) { return nil, p.admin.DeleteRecords(topic, before) })
	}
	try("delete-records", p.records, map[int32]int64{0: 10, 1: -1})
	try("delete-records-beyond-end", p.records, map[int32]int64{2: 51})
	p.listOffsets("list-offsets-after-delete")
	p.show("fetch-after-delete", p.records, 0, 10, 40)
	p.show("fetch-deleted", p.records, 0, 9, 1)
	try("delete-records-compacted", p.compacted, map[int32]int64{0: 1})
}

func (p player) createPartitions() {
	try := func(step string, total int32) {
		p.out.Attempt(step, func() (any, error) {
			defer time.Sleep(200 * time.Millisecond)
			return nil, p.admin.CreatePartitions(p.records, total, nil, false)
		})
	}
	try("create-partitions", 8)
	try("create-partitions-same", 8)
	try("create-partitions-fewer", 3)
	p.out.Attempt("describe-topic-grown", func() (any, error) { return p.describe(p.records) })
}

func (p player) configs() {
	alter := func(step, name string, operation sarama.IncrementalAlterConfigsOperation, value *string) {
		p.out.Attempt(step, func() (any, error) {
			change := map[string]sarama.IncrementalAlterConfigsEntry{name: {Operation: operation, Value: value}}
			return nil, p.admin.IncrementalAlterConfig(sarama.TopicResource, p.records, change, false)
		})
	}
	altered := func() (any, error) {
		// A real broker answers a change of settings before it shows it.
		time.Sleep(300 * time.Millisecond)
		all, err := p.configsOf(p.records)
		if err != nil {
			return nil, err
		}
		kept := map[string]any{}
		for _, name := range []string{"max.message.bytes", "retention.ms", "cleanup.policy"} {
			kept[name] = all[name]
		}
		return kept, nil
	}
	text := func(value string) *string { return &value }
	set, remove := sarama.IncrementalAlterConfigsOperationSet, sarama.IncrementalAlterConfigsOperationDelete
	p.out.Attempt("describe-configs", func() (any, error) { return p.configsOf(p.records) })
	alter("alter-configs", "max.message.bytes", set, text("2000000"))
	p.out.Attempt("describe-configs-altered", altered)
	alter("alter-configs-unknown", "no.such.config", set, text("1"))
	alter("alter-configs-bad", "cleanup.policy", set, text("burn"))
	alter("alter-configs-delete", "max.message.bytes", remove, nil)
	p.out.Attempt("describe-configs-restored", altered)
}

func (p player) configsOf(topic string) (map[string]any, error) {
	entries, err := p.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	if err != nil {
		return nil, err
	}
	configs := map[string]any{}
	for _, one := range entries {
		configs[one.Name] = map[string]any{"value": one.Value, "source": one.Source.String(), "default": one.Default,
			"sensitive": one.Sensitive, "read-only": one.ReadOnly}
	}
	return configs, nil
}

func (p player) delete() {
	for _, topic := range []string{".records", ".small", ".compacted", ".append-time", ".auto", ".defaults", ".unknown"} {
		p.out.Attempt("delete-topic", func() (any, error) { return nil, p.admin.DeleteTopic(p.prefix + topic) }, "topic", topic)
	}
	time.Sleep(300 * time.Millisecond)
	p.out.Attempt("list-topics", func() (any, error) { return p.topics() })
}
