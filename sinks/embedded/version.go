package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// markerPath is the file that names the version of the engine which last opened
// the databases in dir. It lies beside dir, where the engine does not look.
func markerPath(dir string) string { return dir + ".version" }

// checkVersion refuses databases that a newer engine has opened: it may have
// written what this one misreads.
func checkVersion(dir, version string) error {
	text, err := os.ReadFile(markerPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("version of the databases: %w", err)
	}
	written := strings.TrimSpace(string(text))
	newer, err := newerVersion(written, version)
	if err != nil {
		return fmt.Errorf("version of the databases in %s: %w", markerPath(dir), err)
	}
	if newer {
		return fmt.Errorf("databases in %s were written by ClickHouse %s, which is newer than this %s: use that version or another directory", dir, written, version)
	}
	return nil
}

// markVersion notes that this version has opened the databases in dir.
func markVersion(dir, version string) error {
	tmp := markerPath(dir) + ".tmp"
	if err := os.WriteFile(tmp, []byte(version+"\n"), 0o644); err != nil {
		return fmt.Errorf("mark version: %w", err)
	}
	if err := os.Rename(tmp, markerPath(dir)); err != nil {
		return fmt.Errorf("mark version: %w", err)
	}
	return nil
}

// newerVersion reports whether a is a later version than b. Both are numbers
// with dots between; what is missing counts as 0.
func newerVersion(a, b string) (bool, error) {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		x, err := versionPart(as, i)
		if err != nil {
			return false, err
		}
		y, err := versionPart(bs, i)
		if err != nil || x != y {
			return x > y, err
		}
	}
	return false, nil
}

func versionPart(parts []string, i int) (uint64, error) {
	if i >= len(parts) {
		return 0, nil
	}
	n, err := strconv.ParseUint(parts[i], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no version", strings.Join(parts, "."))
	}
	return n, nil
}

// engineVersion asks the library for its version without opening any database:
// the engine starts in memory and ends again, which takes 0.1 s and spares the
// next start the same.
func (c *chdb) engineVersion() (version string, err error) {
	keepSignals(func() {
		cell, conn, oerr := c.open("clickhouse")
		if oerr != nil {
			err = oerr
			return
		}
		defer c.closeConn(cell)
		res, qerr := (&session{lib: c, cell: cell, conn: conn}).exec("SELECT version()", "TSVRaw", nil)
		if qerr != nil {
			err = qerr
			return
		}
		defer res.free()
		version = strings.TrimSpace(string(res.data))
	})
	return version, err
}
