// A member of a group through franz-go; PROTOCOL is `classic` or `consumer` (KIP-848).
package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"stratalog.test/clients/member"
)

const patience = 10 * time.Second

func main() {
	self, until := member.New()
	remove := func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { self.Remove(lost[self.Topic]) }
	options := []kgo.Opt{
		kgo.SeedBrokers(self.Bootstrap), kgo.ConsumerGroup(self.Group), kgo.ConsumeTopics(self.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.FetchMaxWait(50 * time.Millisecond), kgo.SessionTimeout(member.Session),
		kgo.HeartbeatInterval(member.Heartbeat), kgo.OnPartitionsRevoked(remove), kgo.OnPartitionsLost(remove),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, more map[string][]int32) {
			self.Add(more[self.Topic])
		}),
	}
	if self.Protocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		panic(err)
	}
	for until.Err() == nil {
		poll(self, client, until)
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
}

func poll(self *member.Self, client *kgo.Client, until context.Context) {
	fetches := client.PollFetches(until)
	var records [][2]int64
	fetches.EachRecord(func(r *kgo.Record) { records = append(records, [2]int64{int64(r.Partition), r.Offset}) })
	if len(records) == 0 {
		return
	}
	self.Delivered(records)
	offsets := map[int32]kgo.EpochOffset{}
	fetches.EachRecord(func(r *kgo.Record) {
		offsets[r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
	})
	commit := map[string]map[int32]kgo.EpochOffset{self.Topic: offsets}
	within, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client.CommitOffsetsSync(within, commit,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			if err != nil {
				self.Refused(err)
				return
			}
			var done [][2]int64
			for _, topic := range response.Topics {
				for _, one := range topic.Partitions {
					if one.ErrorCode == 0 {
						done = append(done, [2]int64{int64(one.Partition), offsets[one.Partition].Offset})
					}
				}
			}
			self.Committed(done)
		})
}
