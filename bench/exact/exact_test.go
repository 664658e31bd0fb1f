package exact

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// result is the sum over all seeds.
var result struct {
	sync.Mutex
	tally
	seeds, differences int
}

// TestMain prints the sum as the last line.
func TestMain(m *testing.M) {
	code := m.Run()
	if r := &result; r.seeds > 0 {
		fmt.Printf("seeds=%d events=%d crashes=%d rebalances=%d outages=%d permutations=%d rows=%d differences=%d\n",
			r.seeds, r.events, r.crashes, r.rebalances, r.outages, r.permutations, r.rows, r.differences)
	}
	os.Exit(code)
}

// TestExact plays the worlds of seeds. ZYKLUS_SEEDS says how many, ZYKLUS_SEED the first one.
func TestExact(t *testing.T) {
	first, count := number(t, "ZYKLUS_SEED", 1), number(t, "ZYKLUS_SEEDS", 100)
	t.Cleanup(func() { allHit(t) })
	var next atomic.Int64
	began := time.Now()
	for range min(runtime.GOMAXPROCS(0), count) {
		t.Run("seeds", func(t *testing.T) {
			t.Parallel()
			for n := int(next.Add(1)); n <= count; n = int(next.Add(1)) {
				one(t, uint64(first+n-1))
				if n%500 == 0 && n < count {
					fmt.Printf("%d of %d seeds, %d differences, %v\n", n, count, differences(), time.Since(began).Round(time.Second))
				}
			}
		})
	}
}

// floors is how many worlds must have hit everything that can be.
const floors = 1000

// allHit fails if something was never hit by many worlds: a plan that never comes true proves nothing.
func allHit(t *testing.T) {
	result.Lock()
	defer result.Unlock()
	t.Logf("%v", result.hits)
	if result.seeds < floors {
		return
	}
	want := append(sortedKeys(mishaps), kinds...)
	for _, step := range steps {
		want = append(want, "step "+step)
	}
	for _, key := range lostAnswers {
		want = append(want, "the answer to "+key.Name()+" is lost")
	}
	for _, what := range want {
		if result.hits[what] == 0 {
			t.Errorf("%d worlds, and none has hit: %s", result.seeds, what)
		}
	}
}

// kinds of worlds.
var kinds = []string{"by the wall clock", "by heartbeats", "KIP-848", "re-keyed", "guarded", "guarded and re-keyed", "late", "static member"}

func (w *world) hitKinds() {
	for i, is := range []bool{w.wall, !w.wall, w.consumer, w.rekeyed, w.guard != nil, w.guard != nil && w.rekeyed, w.history.Late} {
		if is {
			w.hit(kinds[i])
		}
	}
}

func differences() int {
	result.Lock()
	defer result.Unlock()
	return result.differences
}

// one plays the world of a seed.
func one(t *testing.T, seed uint64) {
	var w *world
	var err error
	watch := time.AfterFunc(2*time.Minute, func() { panic(fmt.Sprintf("seed %d stands still", seed)) })
	synctest.Test(t, func(*testing.T) { w, err = play(seed) })
	watch.Stop()
	result.Lock()
	defer result.Unlock()
	result.seeds++
	result.add(w.tally)
	if err != nil { // printed at once: a later seed may stand still
		result.differences++
		t.Fail()
		fmt.Printf("seed %d: %v\n%s\n%v\nagain: ZYKLUS_SEED=%[1]d ZYKLUS_SEEDS=1 go test ./bench/exact\n", seed, err, strings.Join(w.story, "\n"), w.history)
	}
}

// number returns what a variable of the environment says: a positive number.
func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no positive number", name, text)
	}
	return n
}
