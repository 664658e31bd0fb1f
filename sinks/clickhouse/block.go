package clickhouse

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/ClickHouse/ch-go/compress"

	"zyklus/pipeline"
)

// frameSize is how many bytes are compressed at a time: they stay in the cache, and servers refuse huge frames.
const frameSize = 1 << 20

// block encodes rows in ClickHouse's format Native, revision 0, straight from their columns into memory that is
// reused. The driver's batches copy every value twice into memory allocated anew: 3 times the CPU and 3 kB of garbage
// for each row of 60 columns.
type block struct {
	data       []byte
	frames     []byte
	texts      []string
	compressor *compress.Writer
}

// encode returns the rows as one block. It is valid until the next call.
func (b *block) encode(rows *pipeline.Rows) []byte {
	data := binary.AppendUvarint(b.data[:0], uint64(len(rows.Data)))
	data = binary.AppendUvarint(data, uint64(rows.N))
	for i := range rows.Data {
		c := &rows.Table.Columns[i]
		data = appendText(data, c.Name)
		data = appendText(data, wireType(c))
		data = b.appendColumn(data, c, &rows.Data[i])
	}
	b.data = data
	return data
}

// appendColumn appends the values. A nullable column is a byte for each row, 1 where missing, and then all values.
func (b *block) appendColumn(data []byte, c *pipeline.Column, d *pipeline.ColumnData) []byte {
	if c.Nullable {
		for _, null := range d.Nulls {
			if null {
				data = append(data, 1)
			} else {
				data = append(data, 0)
			}
		}
	}
	switch c.Type {
	case pipeline.TypeText, pipeline.TypeString:
		b.texts = d.Strings(b.texts[:0])
		for _, text := range b.texts {
			data = appendText(data, text)
		}
	case pipeline.TypeNumber:
		for _, v := range d.Floats {
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
		}
	case pipeline.TypeCount:
		for _, v := range d.Ints {
			data = binary.LittleEndian.AppendUint32(data, toCount(v))
		}
	case pipeline.TypeBool:
		for _, v := range d.Ints {
			data = append(data, toBool(v))
		}
	case pipeline.TypeDate:
		for _, v := range d.Ints {
			data = binary.LittleEndian.AppendUint16(data, toDate(v))
		}
	case pipeline.TypeInstant:
		for _, v := range d.Ints {
			data = binary.LittleEndian.AppendUint64(data, uint64(toInstant(v)))
		}
	default:
		for _, v := range d.Ints {
			data = binary.LittleEndian.AppendUint64(data, uint64(v))
		}
	}
	return data
}

// appendText appends a string with its length.
func appendText(data []byte, text string) []byte {
	return append(binary.AppendUvarint(data, uint64(len(text))), text...)
}

// compress returns the data in ClickHouse's compressed frames. They are valid until the next call.
func (b *block) compress(data []byte, method compress.Method) ([]byte, error) {
	if b.compressor == nil {
		b.compressor = compress.NewWriter(compress.LevelZero, method)
	}
	b.frames = b.frames[:0]
	for len(data) > 0 {
		n := min(len(data), frameSize)
		if err := b.compressor.Compress(data[:n]); err != nil {
			return nil, fmt.Errorf("compress: %w", err)
		}
		b.frames = append(b.frames, b.compressor.Data...)
		data = data[n:]
	}
	return b.frames, nil
}
