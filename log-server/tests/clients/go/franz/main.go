// The scenario of SCENARIO.md through franz-go with its defaults: acks=all, idempotent.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"stratalog.test/clients/scenario"
)

const patience = 30 * time.Second

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

type player struct {
	bootstrap, prefix                          string
	records, small, compacted, stamped, unmade string
	client                                     *kgo.Client
	admin                                      *kadm.Client
	out                                        scenario.Transcript
}

func main() {
	bootstrap, prefix := os.Args[1], os.Args[2]
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	p := player{
		bootstrap: bootstrap, prefix: prefix,
		records: prefix + ".records", small: prefix + ".small", compacted: prefix + ".compacted",
		stamped: prefix + ".append-time", unmade: prefix + ".x",
		client: client, admin: kadm.NewClient(client), out: scenario.Transcript{CodeOf: codeOf},
	}
	p.play()
}

func codeOf(err error) (int16, bool) {
	var broker *kerr.Error
	if errors.As(err, &broker) {
		return broker.Code, true
	}
	return 0, false
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (p player) play() {
	p.out.Attempt("describe-cluster", func() (any, error) {
		ctx, cancel := within()
		defer cancel()
		found, err := p.admin.BrokerMetadata(ctx)
		if err != nil {
			return nil, err
		}
		return map[string]any{"nodes": len(found.Brokers), "cluster-id": found.Cluster != "",
			"controller-known": found.Controller == found.Brokers[0].NodeID}, nil
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
		p.out.Attempt(step, func() (any, error) { return p.createTopic(topic, partitions, replicas, configs) })
	}
	try("create-topic", p.records, scenario.Partitions, 1, forever)
	try("create-topic-again", p.records, scenario.Partitions, 1, forever)
	try("create-topic-bad-name", p.prefix+" bad/name", 1, 1, nil)
	try("create-topic-unknown-config", p.unmade, 1, 1, map[string]string{"no.such.config": "1"})
	try("create-topic-bad-config", p.unmade, 1, 1, map[string]string{"retention.ms": "soon"})
	try("create-topic-no-partitions", p.unmade, 0, 1, nil)
	try("create-topic-two-replicas", p.unmade, 1, 2, nil)
	p.out.Attempt("create-topic-validate-only", func() (any, error) {
		ctx, cancel := within()
		defer cancel()
		answers, err := p.admin.ValidateCreateTopics(ctx, 1, 1, nil, p.unmade)
		if err != nil {
			return nil, err
		}
		answer := answers[p.unmade]
		return map[string]any{"partitions": answer.NumPartitions, "replicas": answer.ReplicationFactor}, answer.Err
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

func (p player) createTopic(topic string, partitions int32, replicas int16, configs map[string]string) (any, error) {
	ctx, cancel := within()
	defer cancel()
	asked := map[string]*string{}
	for name, value := range configs {
		asked[name] = kadm.StringPtr(value)
	}
	answer, err := p.admin.CreateTopic(ctx, partitions, replicas, asked, topic)
	if err != nil {
		return nil, err
	}
	for {
		found, err := p.describe(topic)
		if err == nil && found != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return map[string]any{"partitions": answer.NumPartitions, "replicas": answer.ReplicationFactor,
		"id-known": answer.ID != kadm.TopicID{}, "configs": len(answer.Configs)}, nil
}

func (p player) describe(topic string) (any, error) {
	ctx, cancel := within()
	defer cancel()
	topics, err := p.admin.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	found := topics[topic]
	if found.Err != nil {
		return nil, found.Err
	}
	partitions, replicas, isr, epochs := []int32{}, map[int]int{}, map[int]int{}, map[int32]int{}
	for _, one := range found.Partitions.Sorted() {
		if one.Err != nil {
			return nil, one.Err
		}
		partitions = append(partitions, one.Partition)
		replicas[len(one.Replicas)]++
		isr[len(one.ISR)]++
		epochs[one.LeaderEpoch]++
	}
	return map[string]any{"partitions": partitions, "replicas": replicas, "isr": isr, "leader-epochs": epochs,
		"id": found.ID != kadm.TopicID{}, "internal": found.IsInternal}, nil
}

func (p player) topics() ([]string, error) {
	ctx, cancel := within()
	defer cancel()
	// A client of its own, because an older one may answer from what it remembers.
	client, err := kgo.NewClient(kgo.SeedBrokers(p.bootstrap))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found, err := kadm.NewClient(client).ListTopics(ctx)
	names := []string{}
	for _, name := range found.Names() {
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

func (p player) send(codec string, records []scenario.Record) ([]scenario.Record, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(p.bootstrap), kgo.ProducerBatchCompression(codecs[codec]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var asked []*kgo.Record
	for _, record := range records {
		one := &kgo.Record{Topic: record.Topic, Partition: record.Partition, Key: record.Key, Value: record.Value}
		if record.Timestamp != 0 {
			one.Timestamp = time.UnixMilli(record.Timestamp)
		}
		for _, header := range record.Headers {
			one.Headers = append(one.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		asked = append(asked, one)
	}
	ctx, cancel := within()
	defer cancel()
	results := client.ProduceSync(ctx, asked...)
	if err := results.FirstErr(); err != nil {
		return nil, err
	}
	var sent []scenario.Record
	for _, one := range asked {
		sent = append(sent, scenario.Record{Topic: one.Topic, Partition: one.Partition, Offset: one.Offset})
	}
	return sent, nil
}

func (p player) read(topic string, partition int32, offset int64, count int) ([]scenario.Record, error) {
	where := map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.bootstrap), kgo.ConsumePartitions(where),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := within()
	defer cancel()
	var got []scenario.Record
	for len(got) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			one := scenario.Record{Topic: record.Topic, Partition: record.Partition, Offset: record.Offset,
				Timestamp: record.Timestamp.UnixMilli(), Key: record.Key, Value: record.Value}
			for _, header := range record.Headers {
				one.Headers = append(one.Headers, scenario.Header{Name: header.Key, Value: header.Value})
			}
			got = append(got, one)
		})
	}
	return got[:count], nil
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
		p.out.Attempt("offsets-for-time", func() (any, error) {
			ctx, cancel := within()
			defer cancel()
			return shown(p.admin.ListOffsetsAfterMilli(ctx, time.at, p.records))
		}, "time", time.name)
	}
	for partition := range int32(scenario.Partitions) {
		p.show("fetch-from-time", p.records, partition, 25, 25)
	}
	p.show("fetch-nulls", p.small, 0, 0, 3)
	p.show("fetch-out-of-range", p.records, 0, 51, 1)
}

func shown(found kadm.ListedOffsets, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	if err := found.Error(); err != nil {
		return nil, err
	}
	offsets := map[string][]int64{}
	found.Each(func(one kadm.ListedOffset) {
		offsets[fmt.Sprint(one.Partition)] = []int64{one.Offset, one.Timestamp, int64(one.LeaderEpoch)}
	})
	return offsets, nil
}

func (p player) listOffsets(step string) {
	for _, position := range []struct {
		name string
		call func(context.Context, ...string) (kadm.ListedOffsets, error)
	}{{"earliest", p.admin.ListStartOffsets}, {"latest", p.admin.ListEndOffsets},
		{"committed", p.admin.ListCommittedOffsets}, {"max-timestamp", p.admin.ListMaxTimestampOffsets}} {
		p.out.Attempt(step, func() (any, error) {
			ctx, cancel := within()
			defer cancel()
			return shown(position.call(ctx, p.records))
		}, "position", position.name)
	}
}

func (p player) deleteRecords() {
	try := func(step, topic string, before map[int32]int64) {
		p.out.Attempt(step, func() (any, error) {
			ctx, cancel := within()
			defer cancel()
			var asked kadm.Offsets
			for partition, offset := range before {
				asked.AddOffset(topic, partition, offset, -1)
			}
			answers, err := p.admin.DeleteRecords(ctx, asked)
			if err != nil {
				return nil, err
			}
			low := map[string]int64{}
			for _, one := range answers.Sorted() {
				if one.Err != nil {
					return nil, one.Err
				}
				low[fmt.Sprint(one.Partition)] = one.LowWatermark
			}
			return low, nil
		})
	}
	try("delete-records", p.records, map[int32]int64{0: 10, 1: -1})
	try("delete-records-beyond-end", p.records, map[int32]int64{2: 51})
	p.listOffsets("list-offsets-after-delete")
	p.show("fetch-after-delete", p.records, 0, 10, 40)
	p.show("fetch-deleted", p.records, 0, 9, 1)
	try("delete-records-compacted", p.compacted, map[int32]int64{0: 1})
}

func (p player) createPartitions() {
	try := func(step string, total int) {
		p.out.Attempt(step, func() (any, error) {
			ctx, cancel := within()
			defer cancel()
			answers, err := p.admin.UpdatePartitions(ctx, total, p.records)
			if err != nil {
				return nil, err
			}
			time.Sleep(200 * time.Millisecond)
			return nil, answers[p.records].Err
		})
	}
	try("create-partitions", 8)
	try("create-partitions-same", 8)
	try("create-partitions-fewer", 3)
	p.out.Attempt("describe-topic-grown", func() (any, error) { return p.describe(p.records) })
}

func (p player) configs() {
	alter := func(step string, change kadm.AlterConfig) {
		p.out.Attempt(step, func() (any, error) {
			ctx, cancel := within()
			defer cancel()
			answers, err := p.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, p.records)
			if err != nil {
				return nil, err
			}
			return nil, answers[0].Err
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
	p.out.Attempt("describe-configs", func() (any, error) { return p.configsOf(p.records) })
	value := kadm.StringPtr
	alter("alter-configs", kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: value("2000000")})
	alter("alter-configs-append", kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: value("compact")})
	p.out.Attempt("describe-configs-altered", altered)
	alter("alter-configs-subtract", kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: value("compact")})
	alter("alter-configs-unknown", kadm.AlterConfig{Op: kadm.SetConfig, Name: "no.such.config", Value: value("1")})
	alter("alter-configs-bad", kadm.AlterConfig{Op: kadm.SetConfig, Name: "cleanup.policy", Value: value("burn")})
	alter("alter-configs-delete", kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "max.message.bytes"})
	p.out.Attempt("describe-configs-restored", altered)
	p.out.Attempt("replace-configs", func() (any, error) {
		ctx, cancel := within()
		defer cancel()
		replace := []kadm.AlterConfig{{Name: "retention.ms", Value: value("-1")}}
		answers, err := p.admin.AlterTopicConfigsState(ctx, replace, p.records)
		if err != nil {
			return nil, err
		}
		return nil, answers[0].Err
	})
	p.out.Attempt("describe-configs-replaced", altered)
}

func (p player) configsOf(topic string) (map[string]any, error) {
	ctx, cancel := within()
	defer cancel()
	answers, err := p.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	if answers[0].Err != nil {
		return nil, answers[0].Err
	}
	configs := map[string]any{}
	for _, one := range answers[0].Configs {
		synonyms := []string{}
		for _, synonym := range one.Synonyms {
			synonyms = append(synonyms, fmt.Sprintf("%s=%s %s", synonym.Key, *synonym.Value, synonym.Source))
		}
		configs[one.Key] = map[string]any{"value": one.MaybeValue(), "source": one.Source.String(),
			"sensitive": one.Sensitive, "synonyms": synonyms}
	}
	return configs, nil
}

func (p player) delete() {
	for _, topic := range []string{".records", ".small", ".compacted", ".append-time", ".auto", ".defaults", ".unknown"} {
		p.out.Attempt("delete-topic", func() (any, error) {
			ctx, cancel := within()
			defer cancel()
			_, err := p.admin.DeleteTopic(ctx, p.prefix+topic)
			return nil, err
		}, "topic", topic)
	}
	time.Sleep(300 * time.Millisecond)
	p.out.Attempt("list-topics", func() (any, error) { return p.topics() })
}
