package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// LibraryEnv is the environment variable by which callers let users name an
// existing libchdb. This package does not read it; LibraryOptions.Path is
// filled from it.
const LibraryEnv = "ZYKLUS_LIBCHDB"

// libraryVersion is the version of libchdb that is fetched: ClickHouse 26.5.
const libraryVersion = "26.5.3"

// ErrUnsupportedPlatform is returned by Library where no libchdb with a known
// checksum exists for the platform.
var ErrUnsupportedPlatform = errors.New("not supported on this platform, give the path of a libchdb with --libchdb or " + LibraryEnv)

// ErrNoNpm is returned by Library when the library must be downloaded and no
// npm is there to do it.
var ErrNoNpm = errors.New("npm is not installed: install Node.js with npm, or give the path of a libchdb with --libchdb or " + LibraryEnv)

// Phase is a step of fetching the library.
type Phase string

// The phases in their order.
const (
	PhaseDownload Phase = "download"
	PhaseVerify   Phase = "verify"
	PhaseUnpack   Phase = "unpack"
)

// Progress is told how far a fetch is. Done and Total are bytes; Total is
// approximate for a download.
type Progress struct {
	Phase       Phase
	Done, Total int64
}

// LibraryOptions says where libchdb is to be found.
type LibraryOptions struct {
	// Path is an existing libchdb. If it is set, nothing is downloaded.
	Path string
	// CacheDir is where the library is kept. The default is zyklus/ in the
	// user's cache directory.
	CacheDir string
	// Progress, if set, is called about ten times a second during a fetch, from
	// one goroutine at a time.
	Progress func(Progress)
}

// Library returns the path of libchdb: the given one, or the cached one, or
// else one that it downloads with npm (170 MB), verifies against the checksum
// in this code and unpacks (560 MB). Processes that need it at the same time
// download it once. Errors wrap ErrUnsupportedPlatform, ErrNoNpm or
// ErrIntegrity where these are the reason.
func Library(ctx context.Context, opts LibraryOptions) (string, error) {
	if opts.Path != "" {
		if err := checkLibrary(opts.Path); err != nil {
			return "", fmt.Errorf("libchdb: %w", err)
		}
		return opts.Path, nil
	}
	pkg, err := platformPackage(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return "", fmt.Errorf("libchdb: %w", err)
	}
	dir, err := opts.versionDir()
	if err != nil {
		return "", fmt.Errorf("libchdb: %w", err)
	}
	path := filepath.Join(dir, "libchdb.so")
	if checkLibrary(path) == nil {
		return path, nil
	}
	f := fetcher{pkg: pkg, dir: dir, target: path, progress: opts.Progress, npm: "npm"}
	if err := f.fetch(ctx); err != nil {
		return "", fmt.Errorf("fetch libchdb: %w", err)
	}
	return path, nil
}

// versionDir is the cache directory of this version. It need not exist.
func (o LibraryOptions) versionDir() (string, error) {
	dir := o.CacheDir
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache directory: %w", err)
		}
		dir = filepath.Join(user, "zyklus")
	}
	abs, err := filepath.Abs(filepath.Join(dir, "chdb-"+libraryVersion))
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	return abs, nil
}

// checkLibrary reports why path cannot be a library.
func checkLibrary(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return fmt.Errorf("%s is no library", path)
	}
	return nil
}

// npmPackage is a package that holds libchdb for one platform.
type npmPackage struct {
	name string
	// integrity is the package's checksum as npm writes it: "sha512-" and the
	// hash in base64.
	integrity string
	// size is the packed size in bytes, for progress only.
	size int64
}

// platformPackage returns the package for a platform. Sister packages exist for
// linux-arm64-gnu, darwin-arm64 and darwin-x64, but none is used until its
// checksum is known.
func platformPackage(goos, goarch string) (npmPackage, error) {
	if goos == "linux" && goarch == "amd64" {
		return npmPackage{
			name:      "@chdb/lib-linux-x64-gnu@" + libraryVersion,
			integrity: "sha512-fPrLmRt5Moor9yGz4mazbrNje4t7X9KB2mTGkXFWRxRBs2iKy8yh6jx11xsa0Qr3iDFMU/yHqd+bVdYJXu3QaQ==",
			size:      166_572_008,
		}, nil
	}
	return npmPackage{}, fmt.Errorf("%s/%s: %w", goos, goarch, ErrUnsupportedPlatform)
}
