package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/sourcegraph/conc"

	"zyklus/bench/simulator"
	"zyklus/cmd/zyklus/internal/config"
	"zyklus/cmd/zyklus/internal/progress"
	"zyklus/pipeline"
	"zyklus/pipeline/kafka"
)

const (
	commitEvery = time.Second
	loadGrace   = 15 * time.Second // for what is under way when a load is interrupted
)

// loadProgress is what a commit says of how far a load has come. Whoever goes on makes the same records of the files, in
// the same order, and leaves out the first of them. So nothing else need be known.
type loadProgress struct {
	Records int64     `json:"records"` // in the topic, but for the last heartbeats
	Hash    string    `json:"hash"`    // of these records
	Done    bool      `json:"done"`
	At      time.Time `json:"at"`
}

func (p loadProgress) text() (string, error) {
	text, err := json.Marshal(p)
	return string(text), err
}

// parseProgress reads what text wrote.
func parseProgress(text string) (p loadProgress, err error) {
	if err = json.Unmarshal([]byte(text), &p); err != nil {
		return p, err
	}
	if _, err := strconv.ParseUint(p.Hash, 16, 64); err != nil || p.Records < 0 || p.At.IsZero() {
		return p, errors.New("it is none of a load")
	}
	return p, nil
}

// loading is one load.
type loading struct {
	o       loadOptions
	log     *slog.Logger
	intake  *intake
	bar     *progress.Progress
	sum     loadSummary
	refused *refusedFile

	loader  *kafka.Loader // nil: a dry run
	begun   bool
	before  loadProgress // by an earlier run
	sent    int64        // records made so far, of which the first are in the topic already
	hash    *xxhash.Digest
	bytes   int64 // read of the files; the intake's
	showing bool
	sorted  bool    // sorted events have come
	clocks  []int64 // latest event time in each partition, Unix ms
}

// newLoading opens the files, and tells what is wrong with the first, or with the decoder.
func newLoading(cfg *config.Config, o loadOptions, stdin io.Reader, log *slog.Logger) (*loading, error) {
	newDecoder, err := decoders(cfg, &o.source)
	if err != nil {
		return nil, err
	}
	l := &loading{o: o, log: log, bar: newProgress(log), hash: xxhash.New()}
	l.intake = &intake{
		o: &l.o, currency: cfg.Currency, stdin: interruptible(stdin), decoder: newDecoder(), log: log, read: l.noteRead,
		believable: time.Now().Add(o.source.Skew).UnixMilli(),
	}
	if !o.to.IsZero() && o.to.UnixMilli() > l.intake.believable {
		return nil, usageError{fmt.Errorf("--advance-to %s is in the future, which the service would not believe", o.advance)}
	}
	for _, path := range o.paths {
		if _, err := os.Stat(path); path != "-" && errors.Is(err, fs.ErrNotExist) {
			return nil, usageError{fmt.Errorf("%s: no such file: give the path of a CSV, NDJSON or JSON file, compressed or not, or - for standard input", path)}
		}
	}
	if l.intake.first, err = l.intake.open(o.paths[0]); err != nil {
		return nil, err
	}
	if o.sort {
		if l.intake.sorter, err = newSorter(); err != nil {
			l.close()
			return nil, err
		}
	}
	if l.refused, err = createRefused(o.refused); err != nil {
		l.close()
		return nil, usageError{err}
	}
	l.sum.begin(&l.o, time.Now())
	return l, nil
}

func (l *loading) close() {
	if l.intake.first != nil {
		l.intake.first.close()
	}
	if l.intake.sorter != nil {
		l.intake.sorter.close()
	}
	_ = l.refused.close()
}

// open looks at the topic.
func (l *loading) open(ctx context.Context, cfg *config.Config) (err error) {
	if l.o.dryRun {
		l.clocks = make([]int64, 1)
		return nil
	}
	if l.loader, err = kafka.NewLoader(ctx, sourceOptions(cfg, &l.o.source), l.log); err != nil {
		return err
	}
	if l.o.source.Clock != "events" {
		l.log.Warn("the source's clock is not events: the wall clock moves time on once the history has been read")
	}
	l.clocks = make([]int64, l.loader.Partitions())
	if !l.o.resume { // else it is this load that time has come so far by
		return l.seed(ctx, cfg)
	}
	return nil
}

// seed learns how far time has come in a deployment that has run before: what is older comes late.
func (l *loading) seed(ctx context.Context, cfg *config.Config) error {
	admin, err := kafka.NewAdmin(ctx, kafkaOptions(cfg))
	if err != nil {
		return err
	}
	defer admin.Close()
	metas, err := admin.Metas(ctx)
	if err != nil {
		l.log.Debug("how far time has come is not known", "error", err)
		return nil
	}
	for p, m := range metas {
		switch {
		case m == nil:
		case cfg.Rekeyed(): // the partitions are others, and time is the same in all
			for i := range l.clocks {
				l.clocks[i] = max(l.clocks[i], m.Clock)
			}
		case int(p) < len(l.clocks):
			l.clocks[p] = m.Clock
		}
	}
	l.sum.Reached = slices.Max(l.clocks)
	return nil
}

// run loads all files. What is interrupted, or fails in the files, is committed as far as it came.
func (l *loading) run(ctx context.Context) error {
	// What was begun is ended although ctx has ended, unless that takes too long.
	hard, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(loadGrace, giveUp) })()
	l.startBar()
	defer l.bar.Done()

	err := l.consume(ctx, hard)
	if _, files := errors.AsType[fileError](err); err == nil || files || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		if failed := l.end(hard, err == nil); failed != nil {
			err = failed
		}
	}
	if l.loader != nil {
		l.loader.Close(context.WithoutCancel(ctx))
	}
	l.bar.Done()
	l.sum.finish(time.Now())
	if failed := l.refused.close(); err == nil {
		err = failed
	}
	return l.explain(ctx, err)
}

// fileError is one of reading the files.
type fileError struct{ error }

func (e fileError) Unwrap() error { return e.error }

// consume sends what the intake reads until the files end.
func (l *loading) consume(ctx, hard context.Context) (err error) {
	defer context.AfterFunc(ctx, l.intake.unblock)()
	reading, stop := context.WithCancel(ctx)
	items := make(chan []item, 4)
	var failed error
	var wg conc.WaitGroup
	wg.Go(func() { failed = l.intake.run(reading, items) })
	defer func() {
		stop()
		wg.Wait()
		switch {
		case err != nil:
		case ctx.Err() != nil:
			err = ctx.Err()
		default:
			err = failed
		}
	}()
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := l.commit(hard, false); err != nil {
				return err
			}
		case chunk, more := <-items:
			if !more {
				return nil
			}
			if err := l.takeAll(hard, chunk); err != nil {
				return err
			}
		}
	}
}

func (l *loading) takeAll(ctx context.Context, chunk []item) error {
	for i := range chunk {
		if err := l.take(ctx, &chunk[i]); err != nil {
			return err
		}
	}
	l.bar.Count(l.sum.Records)
	if s := l.intake.sorter; s == nil || chunk[0].refused != "" || chunk[0].ignored {
		return nil
	} else if !l.sorted {
		l.sorted = true // all files have been read
		l.bar.Start("loading", s.count, "events")
	}
	l.bar.Add(int64(len(chunk)))
	return nil
}

// take counts an item and sends it, if it is one to send.
func (l *loading) take(ctx context.Context, it *item) error {
	l.sum.Records++
	switch {
	case it.ignored:
		l.sum.Ignored++
		return nil
	case it.refused != "":
		l.sum.refuse(it)
		if err := l.refused.write(it); err != nil {
			return err
		}
		if !l.o.sendRefused || it.value == nil {
			return nil
		}
		return l.send(ctx, it)
	case !l.o.from.IsZero() && it.at <= l.o.from.UnixMilli():
		l.sum.Earlier++
		return nil
	case !l.o.to.IsZero() && it.at > l.o.to.UnixMilli():
		l.sum.Later++
		return nil
	case it.kind == pipeline.KindHeartbeat && l.o.noAdvance:
		l.sum.Ignored++
		return nil
	}
	l.sum.count(it)
	l.order(it)
	return l.send(ctx, it)
}

// order notes how much later than others of its partition an event comes.
func (l *loading) order(it *item) {
	if it.kind == pipeline.KindHeartbeat {
		for i := range l.clocks {
			l.clocks[i] = max(l.clocks[i], it.at)
		}
		return
	}
	p := 0
	if l.loader != nil {
		p = l.loader.Partition(it.key)
	}
	clock := l.clocks[p]
	l.clocks[p] = max(clock, it.at)
	if clock == 0 || clock-it.at <= l.o.source.Lateness.Milliseconds() {
		return
	}
	l.sum.late(clock - it.at)
	if l.sum.LateEvents == 1 {
		l.log.Warn("events come later than the source's lateness allows: the end of the load says how many", "file", it.file, "line", it.line,
			"lateness", l.o.source.Lateness.String())
	}
}

// send hands a record to the loader, unless it is in the topic already.
func (l *loading) send(ctx context.Context, it *item) error {
	if l.loader == nil {
		return nil
	}
	if !l.begun {
		if err := l.begin(ctx, it); err != nil {
			return err
		}
	}
	l.sent++
	var size [8]byte
	for _, part := range [][]byte{it.key, it.value} {
		_, _ = l.hash.Write(strconv.AppendInt(size[:0], int64(len(part)), 36))
		_, _ = l.hash.Write([]byte{':'})
		_, _ = l.hash.Write(part)
	}
	switch {
	case l.sent < l.before.Records:
		return nil
	case l.sent == l.before.Records && l.sum64() != l.before.Hash:
		return usageError{fmt.Errorf("the files, or what the configuration makes of them, differ from the %d records that were loaded from them: --restart loads them from the beginning", l.before.Records)}
	case l.sent == l.before.Records:
		return nil
	}
	l.sum.Loaded++
	if it.kind == pipeline.KindHeartbeat {
		return l.loader.Broadcast(ctx, it.value)
	}
	return l.loader.Produce(ctx, it.key, it.value)
}

func (l *loading) sum64() string { return strconv.FormatUint(l.hash.Sum64(), 16) }

// name tells loads apart by the first record and the flags that choose records.
func (l *loading) name(first []byte) string {
	id := xxhash.New()
	_, _ = fmt.Fprintf(id, "%s\x00%s\x00%v\x00%v\x00%v\x00%v\x00%v\x00", l.o.source.Topic, l.o.preset, l.o.from.UnixMilli(), l.o.to.UnixMilli(),
		l.o.sort, l.o.sendRefused, l.o.noAdvance)
	_, _ = id.Write(first)
	return fmt.Sprintf("%016x", id.Sum64())
}

// begin finds out what was loaded before.
func (l *loading) begin(ctx context.Context, first *item) error {
	l.begun = true
	text, err := l.loader.Begin(ctx, l.name(first.value))
	if err != nil || text == "" || l.o.restart {
		return err
	}
	before, err := parseProgress(text)
	if err != nil {
		return fmt.Errorf("read the progress of an earlier load: %w: --restart loads the files from the beginning", err)
	}
	switch at := before.At.Format(time.RFC3339); {
	case l.o.resume:
		l.before, l.sum.Before = before, before.Records
		l.log.Info("going on with an earlier load", "records", before.Records, "of", at)
		return nil
	case before.Done:
		return usageError{fmt.Errorf("these files were loaded into %s at %s (%d records): --resume loads what they have grown by, --restart loads all of them again",
			l.o.source.Topic, at, before.Records)}
	default:
		return usageError{fmt.Errorf("a load of these files into %s ended early at %s (after %d records): --resume goes on, --restart begins again",
			l.o.source.Topic, at, before.Records)}
	}
}

// commit makes what was sent visible.
func (l *loading) commit(ctx context.Context, done bool) error {
	if l.loader == nil || !l.begun || l.sent < l.before.Records {
		return nil
	}
	text, err := loadProgress{Records: l.sent, Hash: l.sum64(), Done: done, At: time.Now().UTC().Truncate(time.Millisecond)}.text()
	if err != nil {
		return err
	}
	return l.loader.Commit(ctx, text)
}

// end commits what is left; after all files it moves time on first.
func (l *loading) end(ctx context.Context, whole bool) error {
	if !whole {
		return l.commit(ctx, false)
	}
	at := l.o.to
	if at.IsZero() {
		at = l.sum.LastEvent
	}
	switch {
	case l.sent < l.before.Records:
		return usageError{fmt.Errorf("the files hold %d records, but %d were loaded from them: --restart loads them from the beginning", l.sent, l.before.Records)}
	case l.sum.Events == 0 && l.o.to.IsZero() && (!l.o.sendRefused || l.sum.Refused == 0):
		return errNoEvent
	case l.before.Done && l.sent == l.before.Records:
		return nil // there is nothing new
	case l.o.noAdvance || at.IsZero():
		return l.commit(ctx, true)
	}
	l.sum.AdvancedTo = at
	return l.advance(ctx, at)
}

// advance sends the heartbeats that move time on, behind all records, and commits.
func (l *loading) advance(ctx context.Context, to time.Time) error {
	if l.loader == nil {
		return nil
	}
	if !l.begun { // there was no record
		l.begun = true
		if _, err := l.loader.Begin(ctx, l.name(nil)); err != nil {
			return err
		}
	}
	if err := l.loader.Broadcast(ctx, simulator.Heartbeat(nil, to)); err != nil {
		return err
	}
	return l.commit(ctx, true)
}

var errNoEvent = errors.New("the files hold no event to load")

// explain says what an error means for the load, and how to go on.
func (l *loading) explain(ctx context.Context, err error) error {
	in := fmt.Sprintf("%d records are in %s", l.sum.Before+l.sum.Loaded, l.o.source.Topic)
	_, files := errors.AsType[fileError](err)
	_, usage := errors.AsType[usageError](err)
	switch {
	case err == nil || usage && !files || errors.Is(err, errNoEvent):
		return err
	case l.o.dryRun && ctx.Err() != nil:
		return interruptedError{errors.New("interrupted: this is what was read by then")}
	case l.o.dryRun:
		return err
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return interruptedError{fmt.Errorf("interrupted: %s: the same command with --resume goes on", in)}
	case files:
		return fmt.Errorf("%w: %s: with whole files, the same command with --resume goes on", err, in)
	case errors.Is(err, kafka.ErrLoadTaken):
		return err
	}
	return fmt.Errorf("%w: the same command with --resume goes on", err)
}

// noteRead is told of each read. The first file's header is read before there is anything to show.
func (l *loading) noteRead(n int64) {
	if l.bytes += n; l.showing {
		l.bar.Set(l.bytes)
	}
}

// startBar shows how much of the files has been read.
func (l *loading) startBar() {
	total := int64(0)
	for _, path := range l.o.paths {
		info, err := os.Stat(path)
		if path == "-" || err != nil || !info.Mode().IsRegular() {
			total = 0
			break
		}
		total += info.Size()
	}
	title := "loading"
	switch {
	case l.o.dryRun:
		title = "reading"
	case l.o.sort:
		title = "reading, to sort"
	}
	l.bar.Start(title, total, progress.Bytes)
	l.bar.Aside("records")
	l.showing = true
}
