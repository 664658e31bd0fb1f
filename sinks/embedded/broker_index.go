package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The index that kfake keeps beside each file of batches has an entry for each batch, in their order:
//
//	version 1  checksum 1  leader epoch 4  timestamp 8, which is not read  whether the batch is of a transaction 1
const (
	indexEntry   = 15
	indexVersion = 1
)

// Parts of a batch's head, which is part of Kafka's protocol.
const (
	batchHead          = 61
	batchLength        = 8  // 4 bytes: of what follows them
	batchEpoch         = 12 // 4 bytes
	batchAttributes    = 21 // 2 bytes
	batchTransactional = 1 << 4
	batchControl       = 1 << 5
)

// mendIndexes completes the indexes of a data directory. kfake writes a batch and then its entry, so a kill between the two
// leaves a batch without one: it then takes an open transaction for committed records, and every entry that it adds later
// for that of the batch before.
func mendIndexes(dataDir string) error {
	if dataDir == "" {
		return nil
	}
	partitions := filepath.Join(dataDir, "partitions")
	dirs, err := os.ReadDir(partitions)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		last, err := lastSegment(filepath.Join(partitions, dir.Name()))
		if err != nil {
			return err
		}
		if last == "" {
			continue
		}
		if err := mendIndex(last); err != nil {
			return fmt.Errorf("index of %s: %w", dir.Name(), err)
		}
	}
	return nil
}

// lastSegment returns the path, without extension, of the segment of a partition that is written to; empty if there is none.
func lastSegment(dir string) (path string, err error) {
	files, err := os.ReadDir(dir)
	last := int64(-1)
	for _, file := range files {
		name, ok := strings.CutSuffix(file.Name(), ".dat")
		if base, err := strconv.ParseInt(name, 10, 64); ok && err == nil && base > last {
			last, path = base, filepath.Join(dir, name)
		}
	}
	return path, err
}

// mendIndex keeps the entries of a segment's index that are whole, and writes those that are missing.
func mendIndex(segment string) error {
	index, err := os.ReadFile(segment + ".idx")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	whole := 0
	for whole+indexEntry <= len(index) && index[whole+1] == indexChecksum(index[whole:]) {
		whole += indexEntry
	}
	f, err := os.Open(segment + ".dat")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	mended, err := missingEntries(f, index[:whole:whole])
	if err != nil || len(mended) == whole {
		return err
	}
	return os.WriteFile(segment+".idx", mended, 0o644)
}

// missingEntries appends to index the entries of the batches that have none. A batch that is cut off, with which kfake ends
// the file, has none.
func missingEntries(f *os.File, index []byte) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var head [batchHead]byte
	for at, n := int64(0), 0; ; n++ {
		if _, err := f.ReadAt(head[:], at); errors.Is(err, io.EOF) {
			return index, nil
		} else if err != nil {
			return nil, err
		}
		at += batchLength + 4 + int64(binary.BigEndian.Uint32(head[batchLength:]))
		if at > info.Size() {
			return index, nil
		}
		if n*indexEntry >= len(index) {
			index = appendIndexEntry(index, &head)
		}
	}
}

func appendIndexEntry(index []byte, head *[batchHead]byte) []byte {
	var e [indexEntry]byte
	e[0] = indexVersion
	binary.LittleEndian.PutUint32(e[2:], binary.BigEndian.Uint32(head[batchEpoch:]))
	if attributes := binary.BigEndian.Uint16(head[batchAttributes:]); attributes&batchTransactional != 0 && attributes&batchControl == 0 {
		e[14] = 1
	}
	e[1] = indexChecksum(e[:])
	return append(index, e[:]...)
}

// indexChecksum is that of an entry.
func indexChecksum(e []byte) byte {
	return byte(crc32.Checksum(e[2:indexEntry], crc32.MakeTable(crc32.Castagnoli)))
}
