package recordfile_test

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"zyklus/cmd/zyklus/internal/recordfile"
)

// FuzzUnpack unpacks hostile bytes, which are an error or a text, and what was packed of them, which is them again.
func FuzzUnpack(f *testing.F) {
	text := []byte("a,b\n1,2\n")
	packers := []func(io.Writer) (io.WriteCloser, error){
		func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) },
	}
	f.Add(text)
	for _, packer := range packers {
		f.Add(pack(f, packer, text))
		f.Add(pack(f, packer, make([]byte, 4<<20)))
	}
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\xff\x00\x00")) // zstd with the greatest window
	const windows = 2 * 128 << 20                     // the greatest window of zstd --long, and as much to grow into it
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		plain, done, err := recordfile.Unpack(bytes.NewReader(data))
		if err == nil {
			_, _ = io.CopyN(io.Discard, plain, 1<<20)
			done()
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > windows+32<<20+64*uint64(len(data)) {
			t.Fatalf("%d MiB of memory for %d bytes", used>>20, len(data))
		}
		for _, packer := range packers {
			plain, done, err := recordfile.Unpack(bytes.NewReader(pack(t, packer, data)))
			if err != nil {
				if len(data) > 1 && (data[0] == 0xff && data[1] == 0xfe || data[0] == 0xfe && data[1] == 0xff) {
					return // UTF-16
				}
				t.Fatal(err)
			}
			got, err := io.ReadAll(plain)
			done()
			if err != nil || !bytes.Equal(got, bytes.TrimPrefix(data, []byte("\ufeff"))) {
				t.Fatalf("%q became %q: %v", data, got, err)
			}
		}
	})
}

func pack(t testing.TB, packer func(io.Writer) (io.WriteCloser, error), text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := packer(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
