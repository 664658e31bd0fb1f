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
	blocks   blocks
}

// blocks copies bytes to where they stay as they are. A full block is left to the garbage collector.
type blocks struct{ block []byte }

const blockBytes = 1 << 20

// keep returns a copy of b; of nil it is nil.
func (k *blocks) keep(b []byte) []byte {
	if b == nil {
		return nil
	}
	if cap(k.block)-len(k.block) < len(b) {
		k.block = make([]byte, 0, max(blockBytes, len(b)))
	}
	begin := len(k.block)
	k.block = append(k.block, b...)
	return k.block[begin:len(k.block):len(k.block)]
}

func openTopicFeed(ctx context.Context, o kafka.Options, log *slog.Logger) (*topicFeed, error) {
	p, err := kafka.NewProducer(ctx, o, log)
	if err != nil {
		return nil, err
	}
	return &topicFeed{producer: p}, nil
}

// Produce stamps the record with the present: a broker would delete records as old as history is at once.
func (f *topicFeed) Produce(ctx context.Context, key, value []byte, _ time.Time) error {
	return f.producer.Produce(ctx, f.blocks.keep(key), f.blocks.keep(value), time.Now())
}

func (f *topicFeed) Heartbeat(ctx context.Context, value []byte) error {
	return f.producer.Heartbeat(ctx, f.blocks.keep(value))
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
