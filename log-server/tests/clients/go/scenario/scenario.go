// Package scenario holds what the Go programs share: the records, the digest and the transcript of SCENARIO.md.
package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	Partitions      = 6
	RecordsPerCodec = 60
	FirstTimestamp  = int64(1_700_000_000_000)
)

var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// Header keeps the difference between no bytes and null.
type Header struct {
	Name  string
	Value []byte
}

type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64
	Key       []byte
	Value     []byte
	Headers   []Header
}

func RecordsOf(topic, codec string) []Record {
	number := 0
	for i, name := range Codecs {
		if name == codec {
			number = i
		}
	}
	var records []Record
	for i := range RecordsPerCodec {
		records = append(records, Record{
			Topic:     topic,
			Partition: int32(i % Partitions),
			Timestamp: FirstTimestamp + 1000*int64(RecordsPerCodec*number+i),
			Key:       fmt.Appendf(nil, "key-%03d", i),
			Value:     fmt.Appendf(nil, "%s value %03d %s", codec, i, strings.Repeat("x", 7*i)),
			Headers:   []Header{{"codec", []byte(codec)}, {"n", fmt.Append(nil, i)}, {"empty", []byte{}}},
		})
	}
	return records
}

func text(value []byte) string {
	if value == nil {
		return "null"
	}
	return string(value)
}

// Summary is what a fetched run of records is shown as.
func Summary(records []Record) any {
	digest := sha256.New()
	for _, record := range records {
		fmt.Fprintf(digest, "%d|%d|%s|%s|", record.Offset, record.Timestamp, text(record.Key), text(record.Value))
		for _, header := range record.Headers {
			fmt.Fprintf(digest, "%s=%s;", header.Name, text(header.Value))
		}
		fmt.Fprint(digest, "\n")
	}
	shown := map[string]any{"count": len(records), "first": nil, "last": nil,
		"sha256": hex.EncodeToString(digest.Sum(nil))}
	if len(records) > 0 {
		shown["first"], shown["last"] = records[0].Offset, records[len(records)-1].Offset
	}
	return shown
}

// Ranges shows the offsets that a codec's records got: first, last and count by partition.
func Ranges(records []Record) any {
	ranges := map[string][]int64{}
	for _, record := range records {
		key := fmt.Sprint(record.Partition)
		if ranges[key] == nil {
			ranges[key] = []int64{record.Offset, record.Offset, 0}
		}
		ranges[key][1] = record.Offset
		ranges[key][2]++
	}
	return ranges
}

// Offsets are those of the given records, in order.
func Offsets(records []Record) any {
	offsets := []int64{}
	for _, record := range records {
		offsets = append(offsets, record.Offset)
	}
	return offsets
}

// ErrUnsupported says that the library has no such call.
var ErrUnsupported = errors.New("unsupported")

// Transcript prints one JSON object per step. CodeOf finds the broker's error code in a library's error.
type Transcript struct {
	CodeOf func(error) (int16, bool)
}

func (t Transcript) Attempt(step string, call func() (any, error), more ...any) {
	line := map[string]any{"step": step}
	for i := 0; i < len(more); i += 2 {
		line[more[i].(string)] = more[i+1]
	}
	result, err := call()
	switch {
	case errors.Is(err, ErrUnsupported):
		line["unsupported"] = true
	case err != nil:
		if code, ok := t.CodeOf(err); ok {
			line["error"] = code
		} else {
			line["error"] = "client " + err.Error()
		}
	default:
		line["result"] = result
	}
	out, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stdout, "%s\n", out)
}
