package main

import (
	"context"
	"fmt"
	"time"
)

func (d *demo) show(ctx context.Context) error {
	for {
		if err := sleepUntil(ctx, time.Now, time.Now().Add(time.Second)); err != nil {
			return err
		}
		f, err := d.figures()
		if err != nil {
			return err
		}
		if d.board.done.IsZero() && d.board.fed.Load() > 0 && !f.clock.Before(d.history) {
			d.board.done, d.board.doneAt = time.Now(), f.events
		}
		fmt.Fprintln(d.out, f.events, f.rows, f.clock, f.phases, f.deadLetters)
	}
}
