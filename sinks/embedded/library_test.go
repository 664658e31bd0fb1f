package embedded

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// pack makes an npm package with one file.
func pack(t *testing.T, name, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	zipped := gzip.NewWriter(&buf)
	files := tar.NewWriter(zipped)
	if err := files.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	_ = files.Close()
	_ = zipped.Close()
	return buf.Bytes()
}

// fakeNpm writes a program that behaves like npm pack and counts its calls.
func fakeNpm(t *testing.T, archive []byte) (npm, calls string) {
	t.Helper()
	dir := t.TempDir()
	npm, calls = filepath.Join(dir, "npm"), filepath.Join(dir, "calls")
	if err := os.WriteFile(filepath.Join(dir, "archive"), archive, 0o600); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho call >> '" + calls + "'\n[ \"$3\" = --pack-destination ] && cp '" + filepath.Join(dir, "archive") + "' \"$4/package.tgz\"\n"
	if err := os.WriteFile(npm, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return npm, calls
}

func integrity(archive []byte) string {
	sum := sha512.Sum512(archive)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func newFetcher(t *testing.T, npm, integrity string) *fetcher {
	t.Helper()
	dir := t.TempDir()
	return &fetcher{
		pkg: npmPackage{name: "pkg@1", integrity: integrity, size: 100}, dir: dir,
		target: filepath.Join(dir, "libchdb.so"), npm: npm,
	}
}

// wantFiles checks what is left in the cache.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("files %v, want %v", got, want)
	}
}

func TestFetch(t *testing.T) {
	archive := pack(t, "package/libchdb.so", "the library")
	npm, calls := fakeNpm(t, archive)
	f := newFetcher(t, npm, integrity(archive))
	if err := os.Mkdir(filepath.Join(f.dir, "fetch-left"), 0o700); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	phases := map[Phase]bool{}
	f.progress = func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		phases[p.Phase] = true
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := f.fetch(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if text, err := os.ReadFile(f.target); err != nil || string(text) != "the library" {
		t.Fatalf("%q, %v", text, err)
	}
	if text, err := os.ReadFile(calls); err != nil || string(text) != "call\n" {
		t.Fatalf("npm calls %q, %v", text, err)
	}
	if !phases[PhaseDownload] || !phases[PhaseVerify] || !phases[PhaseUnpack] {
		t.Fatalf("phases %v", phases)
	}
	wantFiles(t, f.dir, "libchdb.so", "lock")
}

func TestFetchRefuses(t *testing.T) {
	good := pack(t, "package/libchdb.so", "the library")
	other := pack(t, "package/other", "no library")
	for name, c := range map[string]struct {
		archive   []byte
		integrity string
		want      error
	}{
		"checksum": {other, integrity(good), ErrIntegrity},
		"content":  {other, integrity(other), nil},
		"no gzip":  {[]byte("x"), integrity([]byte("x")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			npm, _ := fakeNpm(t, c.archive)
			f := newFetcher(t, npm, c.integrity)
			err := f.fetch(t.Context())
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Fatal(err)
			}
			wantFiles(t, f.dir, "lock")
		})
	}
}

func TestNoNpm(t *testing.T) {
	f := newFetcher(t, "no-such-npm", "")
	err := f.fetch(t.Context())
	if !errors.Is(err, ErrNoNpm) || !strings.Contains(err.Error(), LibraryEnv) || !strings.Contains(err.Error(), "--libchdb") {
		t.Fatal(err)
	}
	wantFiles(t, f.dir, "lock")
}

func TestNpmFails(t *testing.T) {
	npm := filepath.Join(t.TempDir(), "npm")
	if err := os.WriteFile(npm, []byte("#!/bin/sh\necho no such package >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := newFetcher(t, npm, "").fetch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no such package") {
		t.Fatal(err)
	}
}

func TestFetchEndsWithContext(t *testing.T) {
	npm := filepath.Join(t.TempDir(), "npm")
	if err := os.WriteFile(npm, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), progressInterval)
	defer cancel()
	if err := newFetcher(t, npm, "").fetch(ctx); err == nil {
		t.Fatal("no error")
	}
}

func TestPlatforms(t *testing.T) {
	if pkg, err := platformPackage("linux", "amd64"); err != nil || !strings.HasPrefix(pkg.integrity, "sha512-") {
		t.Fatal(pkg, err)
	}
	_, err := platformPackage("darwin", "arm64")
	if !errors.Is(err, ErrUnsupportedPlatform) || !strings.Contains(err.Error(), "darwin/arm64: not supported on this platform") {
		t.Fatal(err)
	}
}

func TestLibraryPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lib.so")
	if _, err := Library(t.Context(), LibraryOptions{Path: path}); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Library(t.Context(), LibraryOptions{Path: path}); err != nil || got != path {
		t.Fatal(got, err)
	}
	cached := filepath.Join(t.TempDir(), "chdb-"+libraryVersion, "libchdb.so")
	if err := os.MkdirAll(filepath.Dir(cached), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cached, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Library(t.Context(), LibraryOptions{CacheDir: filepath.Dir(filepath.Dir(cached))}); err == nil && got != cached {
		t.Fatal(got)
	}
}
