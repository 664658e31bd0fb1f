package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/go-faster/city"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// ClickHouse's compressed stream is a row of frames: a checksum of 16 bytes
// over the rest of the frame, the method, the size of the frame without its
// checksum and the size of the data, both 4 bytes, then the compressed data.
const (
	frameChecksum = 16
	frameHeader   = 9
	frameNone     = 0x02
	frameLZ4      = 0x82
	frameZSTD     = 0x90
)

// errChecksum is returned for a frame whose checksum is wrong.
var errChecksum = errors.New("checksum of a compressed frame does not match")

// frameReader reads compressed frames. ch-go's own reader refuses frames of
// more than 128 MiB, which clickhouse-go sends for a large batch.
type frameReader struct {
	src io.Reader
	// limit bounds the size of a frame, before and after decompression.
	limit int64
	frame []byte
	data  []byte
	rest  []byte
	zstd  *zstd.Decoder
}

func newFrameReader(src io.Reader, limit int64) *frameReader {
	return &frameReader{src: src, limit: limit}
}

// Read implements io.Reader. A stream that ends between two frames ends with
// io.EOF, one that ends within a frame with io.ErrUnexpectedEOF.
func (f *frameReader) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: one write per frame.
func (f *frameReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		n, err := w.Write(f.rest)
		total += int64(n)
		f.rest = nil
		if err != nil {
			return total, err
		}
		switch err := f.next(); {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// next reads one frame into rest.
func (f *frameReader) next() error {
	var head [frameChecksum + frameHeader]byte
	if _, err := io.ReadFull(f.src, head[:]); err != nil {
		return err
	}
	size := int64(binary.LittleEndian.Uint32(head[17:]))
	length := int64(binary.LittleEndian.Uint32(head[21:]))
	if size < frameHeader || size > f.limit || length > f.limit {
		return fmt.Errorf("compressed frame of %d bytes, %d uncompressed: %w", size, length, errTooLarge)
	}
	var err error
	if f.frame, err = readAsSent(f.src, append(f.frame[:0], head[frameChecksum:]...), int(size)); err != nil {
		return unexpected(err)
	}
	sum := city.CH128(f.frame)
	if sum.Low != binary.LittleEndian.Uint64(head[0:]) || sum.High != binary.LittleEndian.Uint64(head[8:]) {
		return errChecksum
	}
	return f.decompress(int(length))
}

// decompress fills rest with the data of the current frame.
func (f *frameReader) decompress(length int) error {
	body := f.frame[frameHeader:]
	var err error
	switch method := f.frame[0]; method {
	case frameNone:
		f.rest = body
	case frameLZ4:
		if length/maxRatioLZ4 > len(body) {
			return fmt.Errorf("decompress frame: %d bytes cannot hold %d", len(body), length)
		}
		f.data = grow(f.data, length)
		var n int
		n, err = lz4.UncompressBlock(body, f.data)
		f.rest = f.data[:max(n, 0)]
	case frameZSTD:
		f.rest, err = f.unzstd(body)
	default:
		return fmt.Errorf("compression method 0x%02x is unknown", method)
	}
	if err != nil {
		return fmt.Errorf("decompress frame: %w", err)
	}
	if len(f.rest) != length {
		return fmt.Errorf("decompress frame: %d bytes instead of %d", len(f.rest), length)
	}
	return nil
}

func (f *frameReader) unzstd(body []byte) ([]byte, error) {
	if f.zstd == nil {
		var err error
		f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(f.limit)))
		if err != nil {
			return nil, err
		}
	}
	return f.zstd.DecodeAll(body, f.data[:0])
}

// maxRatioLZ4 is how often LZ4 can shorten data: a byte of it stands for 255
// bytes at most.
const maxRatioLZ4 = 255

// readAsSent reads until b is n bytes long. Memory grows with what has arrived,
// not with what was announced.
func readAsSent(src io.Reader, b []byte, n int) ([]byte, error) {
	const step = 1 << 20
	for len(b) < n {
		more := min(n-len(b), max(len(b), step))
		b = slices.Grow(b, more)
		got, err := io.ReadFull(src, b[len(b):len(b)+more])
		if b = b[:len(b)+got]; err != nil {
			return b, err
		}
	}
	return b, nil
}

// grow returns a slice of n bytes, b's own memory if it is large enough. The
// content is not kept.
func grow(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:n]
	}
	return make([]byte, n)
}

// unexpected turns the end of the stream into an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frameSize is how much data goes into one frame of a response, in bytes.
const frameSize = 1 << 20

// frameWriter writes compressed frames. Close writes the last one.
type frameWriter struct {
	dst  io.Writer
	comp *compress.Writer
	buf  []byte
}

func newFrameWriter(dst io.Writer, method compress.Method) *frameWriter {
	return &frameWriter{dst: dst, comp: compress.NewWriter(compress.LevelZero, method)}
}

// Write implements io.Writer.
func (f *frameWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(frameSize-len(f.buf), len(p))
		f.buf = append(f.buf, p[:n]...)
		p = p[n:]
		if len(f.buf) < frameSize {
			continue
		}
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// Close writes what is left. It does not close the destination.
func (f *frameWriter) Close() error {
	if len(f.buf) == 0 {
		return nil
	}
	return f.flush()
}

func (f *frameWriter) flush() error {
	if err := f.comp.Compress(f.buf); err != nil {
		return fmt.Errorf("compress frame: %w", err)
	}
	f.buf = f.buf[:0]
	_, err := f.dst.Write(f.comp.Data)
	return err
}
