// Package member holds what the Go members of a group share: the line about each event, and the order to leave.
//
// `PROGRAM BOOTSTRAP GROUP TOPIC NAME PROTOCOL` is one member. It prints one JSON object per line and system call; SIGTERM
// makes it leave its group and end.
package member

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	Session        = 6 * time.Second
	Heartbeat      = 500 * time.Millisecond
	recordsPerLine = 100
)

// Self is what the arguments say, and the partitions that are this member's.
type Self struct {
	Bootstrap, Group, Topic, Name, Protocol string
	lock                                    sync.Mutex
	owned                                   map[int32]bool
}

// New returns this member, and a context that ends when it is told to leave.
func New() (*Self, context.Context) {
	until, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	a := os.Args
	return &Self{Bootstrap: a[1], Group: a[2], Topic: a[3], Name: a[4], Protocol: a[5], owned: map[int32]bool{}}, until
}

func (s *Self) say(event, what string, value any) {
	line, err := json.Marshal(map[string]any{"member": s.Name, "event": event, what: value})
	if err != nil {
		panic(err)
	}
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

func (s *Self) Add(partitions []int32)    { s.change(partitions, true) }
func (s *Self) Remove(partitions []int32) { s.change(partitions, false) }

func (s *Self) change(partitions []int32, isOurs bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, partition := range partitions {
		if isOurs {
			s.owned[partition] = true
		} else {
			delete(s.owned, partition)
		}
	}
	owned := make([]int32, 0, len(s.owned))
	for partition := range s.owned {
		owned = append(owned, partition)
	}
	slices.Sort(owned)
	s.say("owned", "partitions", owned)
}

// Delivered tells of records as (partition, offset).
func (s *Self) Delivered(records [][2]int64) {
	for part := range slices.Chunk(records, recordsPerLine) {
		s.say("records", "records", part)
	}
}

// Committed tells of offsets as (partition, offset) that the broker has acknowledged.
func (s *Self) Committed(offsets [][2]int64) { s.say("committed", "offsets", offsets) }

// Refused tells of a commit that was not acknowledged.
func (s *Self) Refused(err error) { s.say("refused", "text", err.Error()) }
