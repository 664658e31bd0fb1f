package recordfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the greatest window of zstd that is unpacked: that of zstd --long.
const maxWindow = 128 << 20

var errDamaged = errors.New("the compressed data is damaged or cut off")

// Unpack returns what in holds, unpacked if it is gzip or zstd by its first bytes, without a byte order mark. done frees
// memory. It reads in from the goroutine that reads the result.
func Unpack(in io.Reader) (plain io.Reader, done func(), err error) {
	packed := bufio.NewReaderSize(in, firstBuffer)
	head, err := packed.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	plain, done = packed, func() {}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		zipped, err := gzip.NewReader(packed)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		plain = damaged{zipped}
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		plain, done = damaged{d}, d.Close
	}
	text := bufio.NewReaderSize(plain, firstBuffer)
	if err := dropMark(text); err != nil {
		done()
		return nil, nil, err
	}
	return text, done, nil
}

// damaged names the errors of unpacking.
type damaged struct{ r io.Reader }

func (d damaged) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // an EOF that is wrapped is one in the middle
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return n, err
}

// dropMark passes over the byte order mark of UTF-8 and refuses those of UTF-16.
func dropMark(text *bufio.Reader) error {
	head, err := text.Peek(3)
	if err != nil && err != io.EOF {
		return err
	}
	switch {
	case bytes.Equal(head, []byte("\ufeff")):
		_, err := text.Discard(3)
		return err
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}), bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		return errors.New("the text is UTF-16: convert it to UTF-8 first, as with iconv -f utf-16 -t utf-8")
	}
	return nil
}
