// A member of a group through sarama, which has the classic protocol only.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"

	"stratalog.test/clients/member"
)

type handler struct{ self *member.Self }

func (h handler) Setup(session sarama.ConsumerGroupSession) error {
	h.self.Add(session.Claims()[h.self.Topic])
	return nil
}

func (h handler) Cleanup(session sarama.ConsumerGroupSession) error {
	// What was marked is committed before the partitions go.
	session.Commit()
	h.self.Remove(session.Claims()[h.self.Topic])
	return nil
}

// ConsumeClaim runs once per partition. Sarama's commit covers all partitions and says nothing of its outcome, so only
// deliveries are told.
func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, isOpen := <-claim.Messages():
			if !isOpen {
				return nil
			}
			h.self.Delivered([][2]int64{{int64(message.Partition), message.Offset}})
			session.MarkMessage(message, "")
			if len(claim.Messages()) == 0 {
				session.Commit()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func main() {
	self, until := member.New()
	config := sarama.NewConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = member.Session
	config.Consumer.Group.Heartbeat.Interval = member.Heartbeat
	config.Consumer.MaxWaitTime = 50 * time.Millisecond
	if self.Protocol != "classic" {
		version, err := sarama.ParseKafkaVersion(self.Protocol)
		if err != nil {
			panic(err)
		}
		config.Version = version
	}
	group, err := sarama.NewConsumerGroup([]string{self.Bootstrap}, self.Group, config)
	if err != nil {
		panic(err)
	}
	for until.Err() == nil {
		err := group.Consume(until, []string{self.Topic}, handler{self})
		if err != nil && !errors.Is(err, context.Canceled) {
			self.Refused(err)
			// The broker is gone or not ready; an attempt costs little, but not nothing.
			select {
			case <-time.After(100 * time.Millisecond):
			case <-until.Done():
			}
		}
	}
	if err := group.Close(); err != nil {
		self.Refused(err)
	}
}
