package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"time"

	"zyklus/pipeline/kafka"
)

// topicFeed feeds a Kafka topic. It copies records into blocks, because the producer keeps them until they are stored.
type topicFeed struct {
	producer *kafka.Producer
	block    []byte
}

const blockBytes = 1 << 20

func openTopicFeed(ctx context.Context, o kafka.Options, log *slog.Logger) (*topicFeed, error) {
	p, err := kafka.NewProducer(ctx, o, log)
	if err != nil {
		return nil, err
	}
	return &topicFeed{producer: p}, nil
}

// Produce stamps the record with the present: a broker would delete records as old as history is at once.
func (f *topicFeed) Produce(ctx context.Context, key, value []byte, _ time.Time) error {
	return f.producer.Produce(ctx, f.keep(key), f.keep(value), time.Now())
}

// keep copies b to where it stays as it is. A full block is left to the garbage collector.
func (f *topicFeed) keep(b []byte) []byte {
	if cap(f.block)-len(f.block) < len(b) {
		f.block = make([]byte, 0, max(blockBytes, len(b)))
	}
	begin := len(f.block)
	f.block = append(f.block, b...)
	return f.block[begin:len(f.block):len(f.block)]
}

func (f *topicFeed) Heartbeat(ctx context.Context, value []byte) error {
	return f.producer.Heartbeat(ctx, f.keep(value))
}

func (f *topicFeed) Flush(ctx context.Context) error { return f.producer.Flush(ctx) }

func (f *topicFeed) close() { f.producer.Close() }

// fileFeed writes one event a line.
type fileFeed struct{ w *bufio.Writer }

func newFileFeed(w io.Writer) *fileFeed { return &fileFeed{bufio.NewWriterSize(w, 1<<16)} }

func (f *fileFeed) Produce(_ context.Context, _, value []byte, _ time.Time) error {
	if _, err := f.w.Write(value); err != nil {
		return err
	}
	return f.w.WriteByte('\n')
}

func (f *fileFeed) Heartbeat(ctx context.Context, value []byte) error {
	return f.Produce(ctx, nil, value, time.Time{})
}

func (f *fileFeed) Flush(context.Context) error { return f.w.Flush() }
