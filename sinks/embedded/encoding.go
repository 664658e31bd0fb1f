package embedded

import (
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// errTooLarge is returned for a body above the endpoint's limit.
var errTooLarge = errors.New("larger than allowed")

// limitReader reads at most left bytes and then fails with errTooLarge, where
// io.LimitReader would silently cut the data.
type limitReader struct {
	src  io.Reader
	left int64
}

// Read implements io.Reader.
func (l *limitReader) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.src.Read(p)
	if int64(n) > l.left {
		return int(l.left), errTooLarge
	}
	l.left -= int64(n)
	return n, err
}

// decodeBody undoes a Content-Encoding. An unknown one is an *exception.
func decodeBody(encoding string, body io.Reader) (io.Reader, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		return wrapErr(gzip.NewReader(body))
	case "deflate":
		return wrapErr(zlib.NewReader(body))
	case "br":
		return brotli.NewReader(body), nil
	case "lz4":
		return lz4.NewReader(body), nil
	case "zstd":
		r, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("content encoding: %w", err)
		}
		return r.IOReadCloser(), nil
	}
	return nil, raise(codeUnsupported, "NOT_IMPLEMENTED", "Content-Encoding "+encoding+" is not supported")
}

func wrapErr[R io.Reader](r R, err error) (io.Reader, error) {
	if err != nil {
		return nil, fmt.Errorf("content encoding: %w", err)
	}
	return r, nil
}

// acceptedEncoding picks the encoding of a response from Accept-Encoding, ""
// for none. Like ClickHouse it takes the first it knows and ignores weights.
func acceptedEncoding(accept string) string {
	for _, part := range strings.Split(accept, ",") {
		name, weight, _ := strings.Cut(part, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if strings.ReplaceAll(weight, " ", "") == "q=0" {
			continue
		}
		switch name {
		case "gzip", "deflate", "br", "lz4", "zstd":
			return name
		}
	}
	return ""
}

// encodeBody returns a writer in the encoding acceptedEncoding chose. Close
// ends the encoding but does not close w.
func encodeBody(encoding string, w io.Writer) (io.WriteCloser, error) {
	switch encoding {
	case "gzip":
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case "deflate":
		return zlib.NewWriterLevel(w, zlib.BestSpeed)
	case "br":
		return brotli.NewWriterLevel(w, brotli.BestSpeed), nil
	case "lz4":
		return lz4.NewWriter(w), nil
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	return nopCloser{w}, nil
}

// nopCloser is a writer whose Close does nothing.
type nopCloser struct{ io.Writer }

// Close does nothing.
func (nopCloser) Close() error { return nil }
