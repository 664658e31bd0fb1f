package embedded

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// ErrIntegrity is returned when the downloaded package is not the one whose
// checksum this code knows.
var ErrIntegrity = errors.New("checksum does not match: the package is not the expected one")

// progressInterval is how often a fetch reports.
const progressInterval = 100 * time.Millisecond

// fetcher downloads one package and puts its library at target, below dir.
type fetcher struct {
	pkg      npmPackage
	dir      string
	target   string
	progress func(Progress)
	// npm is the client's name or path.
	npm string
}

// fetch downloads, verifies and unpacks under a lock that other processes
// respect. Whatever happens, nothing but the finished library stays.
func (f *fetcher) fetch(ctx context.Context) error {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return fmt.Errorf("create cache: %w", err)
	}
	unlock, err := lockFile(ctx, filepath.Join(f.dir, "lock"))
	if err != nil {
		return fmt.Errorf("lock cache: %w", err)
	}
	defer unlock()
	if checkLibrary(f.target) == nil {
		return nil // another process was faster
	}
	if err := f.removeLeftovers(); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(f.dir, "fetch-*")
	if err != nil {
		return fmt.Errorf("create download directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	return f.fetchInto(ctx, tmp)
}

// fetchInto does the steps of a fetch within an own directory.
func (f *fetcher) fetchInto(ctx context.Context, tmp string) error {
	archive, err := f.download(ctx, tmp)
	if err != nil {
		return fmt.Errorf("download %s: %w", f.pkg.name, err)
	}
	if err := f.verify(ctx, archive); err != nil {
		return fmt.Errorf("verify %s: %w", f.pkg.name, err)
	}
	library := filepath.Join(tmp, "libchdb.so")
	if err := f.unpack(ctx, archive, library); err != nil {
		return fmt.Errorf("unpack %s: %w", f.pkg.name, err)
	}
	// The rename is what makes the library visible: no other process ever sees
	// a part of it.
	return os.Rename(library, f.target)
}

// removeLeftovers deletes what killed processes left. The caller holds the lock.
func (f *fetcher) removeLeftovers() error {
	old, err := filepath.Glob(filepath.Join(f.dir, "fetch-*"))
	if err != nil {
		return fmt.Errorf("find leftovers: %w", err)
	}
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove leftovers: %w", err)
		}
	}
	return nil
}

// download has npm fetch the package from the registry the user configured, and
// returns the path of the archive. npm's cache is put into tmp, so that the
// growing directory shows how far the download is.
func (f *fetcher) download(ctx context.Context, tmp string) (string, error) {
	npm, err := exec.LookPath(f.npm)
	if err != nil {
		return "", ErrNoNpm
	}
	cmd := exec.CommandContext(ctx, npm, "pack", f.pkg.name, "--pack-destination", tmp,
		"--cache", filepath.Join(tmp, "cache"), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = tmp, &out, &out
	cmd.WaitDelay = time.Second
	stop := f.watch(tmp)
	err = cmd.Run()
	stop()
	if err != nil {
		return "", fmt.Errorf("npm pack: %w: %s", err, strings.TrimSpace(out.String()))
	}
	archives, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return "", fmt.Errorf("npm pack left %d archives: %s", len(archives), strings.TrimSpace(out.String()))
	}
	return archives[0], nil
}

// watch reports the size of a directory until the returned function is called,
// which waits for the last report.
func (f *fetcher) watch(dir string) func() {
	if f.progress == nil {
		return func() {}
	}
	stop, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			// npm holds the package in its cache before it writes the archive.
			f.progress(Progress{PhaseDownload, min(dirSize(dir), f.pkg.size), f.pkg.size})
			select {
			case <-stop:
				return
			case <-time.After(progressInterval):
			}
		}
	}()
	return func() {
		close(stop)
		<-gone
	}
}

// dirSize sums the files below dir, in bytes. Files that vanish do not count.
func dirSize(dir string) int64 {
	var size int64
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}

// verify compares the archive with the checksum in this code.
func (f *fetcher) verify(ctx context.Context, archive string) error {
	src, done, err := f.open(ctx, archive, PhaseVerify)
	if err != nil {
		return err
	}
	defer done()
	hash := sha512.New()
	if _, err := io.Copy(hash, src); err != nil {
		return err
	}
	got := "sha512-" + base64.StdEncoding.EncodeToString(hash.Sum(nil))
	if got != f.pkg.integrity {
		return fmt.Errorf("%w: %s instead of %s", ErrIntegrity, got, f.pkg.integrity)
	}
	return nil
}

// unpack writes the library in the archive to target.
func (f *fetcher) unpack(ctx context.Context, archive, target string) error {
	src, done, err := f.open(ctx, archive, PhaseUnpack)
	if err != nil {
		return err
	}
	defer done()
	unzipped, err := gzip.NewReader(src)
	if err != nil {
		return err
	}
	files := tar.NewReader(unzipped)
	for {
		header, err := files.Next()
		if err == io.EOF {
			return errors.New("no package/libchdb.so in it")
		}
		if err != nil {
			return err
		}
		if header.Name == "package/libchdb.so" {
			return writeFile(target, files)
		}
	}
}

// writeFile copies src to a new file and makes it durable.
func writeFile(path string, src io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer closeInto(f, &err)
	if _, err := io.Copy(f, src); err != nil {
		return err
	}
	return f.Sync()
}

// open opens the archive so that reading it reports progress and ends with ctx.
func (f *fetcher) open(ctx context.Context, path string, phase Phase) (io.Reader, func(), error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	r := &progressReader{ctx: ctx, src: file, report: f.progress, state: Progress{Phase: phase, Total: info.Size()}}
	return r, func() { _ = file.Close() }, nil
}

// progressReader reports how much was read.
type progressReader struct {
	ctx    context.Context
	src    io.Reader
	report func(Progress)
	state  Progress
	last   time.Time
}

// Read implements io.Reader.
func (p *progressReader) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.src.Read(b)
	p.state.Done += int64(n)
	if p.report != nil && (err == io.EOF || time.Since(p.last) >= progressInterval) {
		p.last = time.Now()
		p.report(p.state)
	}
	return n, err
}

// closeInto closes c and keeps the first error.
func closeInto(c io.Closer, err *error) {
	if cerr := c.Close(); *err == nil {
		*err = cerr
	}
}
