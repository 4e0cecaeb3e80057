package activity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

var start = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)

// backlog is a register with days of many tenants that are due, and what was shared out of it.
type backlog struct {
	plan *activity.Plan
	time time.Time

	mu     sync.Mutex
	shared map[string]int // by tenant and day
	tasks  int
	more   []json.RawMessage
	down   error // of the queue
}

func newBacklog(t *testing.T, tenants, days int) *backlog {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &backlog{time: start, shared: map[string]int{}}
	b.plan = &activity.Plan{
		Work: activity.Index, Register: db.Activity(), Share: b.share, More: b.send, Now: func() time.Time { return b.time }, Log: slog.New(slog.DiscardHandler),
	}
	for n := range tenants {
		var receipts []activity.Receipt
		for day := range days {
			receipts = append(receipts, activity.Receipt{Received: start, Day: start.Truncate(24*time.Hour).AddDate(0, 0, -day)})
		}
		if err := db.Activity().Touch(t.Context(), audit.TenantID(fmt.Sprintf("t%d", n)), receipts, start.Add(-time.Hour+time.Duration(n)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *backlog) share(_ context.Context, tenant audit.TenantID, days []activity.DueDay) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return b.down
	}
	b.tasks++
	for _, d := range days {
		b.shared[string(tenant)+" "+d.Day.Format(time.DateOnly)]++
	}
	return nil
}

func (b *backlog) send(_ context.Context, _ audit.TenantID, input any) error {
	text, err := json.Marshal(input)
	b.more = append(b.more, text)
	return err
}

// work does the runs that were sent, one after the other, and returns their number.
func (b *backlog) work(t *testing.T) (runs int) {
	t.Helper()
	for ; len(b.more) > 0; runs++ {
		input := b.more[0]
		b.more = b.more[1:]
		before := len(b.shared)
		if err := b.plan.Do(t.Context(), "t0", input); err != nil {
			t.Fatal(err)
		}
		if n := len(b.shared) - before; n > b.plan.MaxShared {
			t.Errorf("a run shared out %d days, want %d at most", n, b.plan.MaxShared)
		}
	}
	return runs
}

func (b *backlog) wantShared(t *testing.T, days int) {
	t.Helper()
	if got := len(b.shared); got != days {
		t.Errorf("%d days were shared out, want %d", got, days)
	}
	for day, n := range b.shared {
		if n != 1 {
			t.Errorf("%s was shared out %d times, want once", day, n)
		}
	}
}

// TestABacklogIsSharedOutInSteps: the scheduled run does the first, and each sends the next one behind its days.
func TestABacklogIsSharedOutInSteps(t *testing.T) {
	b := newBacklog(t, 40, 30)
	b.plan.MaxShared = 90
	if err := b.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wantShared(t, 90)
	if len(b.more) != 1 {
		t.Fatalf("the scheduled run sent %d others, want one", len(b.more))
	}
	if runs, want := b.work(t), 40*30/90; runs != want { // the last finds the end
		t.Errorf("%d runs followed, want %d", runs, want)
	}
	b.wantShared(t, 40*30)
	if want := 40 * 2; b.tasks > want+14 { // at most 20 days in each, and a tenant is cut at the end of a run
		t.Errorf("the days are in %d tasks, want about %d", b.tasks, want)
	}
}

// TestStepsEndWithTheNextScheduledRun: it begins others.
func TestStepsEndWithTheNextScheduledRun(t *testing.T) {
	b := newBacklog(t, 4, 30)
	b.plan.MaxShared = 10
	if err := b.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.time = b.time.Add(time.Hour)
	if runs := b.work(t); runs != 1 {
		t.Errorf("%d runs followed, want one that did nothing", runs)
	}
	b.wantShared(t, 10)
}

// TestWithoutWorkersTheRestWaits: a work whose workers do not go on waits for the next scheduled run.
func TestWithoutWorkersTheRestWaits(t *testing.T) {
	b := newBacklog(t, 4, 30)
	b.plan.MaxShared, b.plan.More = 10, nil
	for want := 10; want <= 120; want += 10 {
		if err := b.plan.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.wantShared(t, want)
	}
}

// TestStepsEndWhenTheQueueIsDown: the days are due again when their claims end.
func TestStepsEndWhenTheQueueIsDown(t *testing.T) {
	b := newBacklog(t, 4, 30)
	b.plan.MaxShared, b.down = 10, errors.New("down")
	if err := b.plan.Run(t.Context()); !errors.Is(err, b.down) {
		t.Errorf("got %v, want %v", err, b.down)
	}
	if len(b.more) > 0 {
		t.Errorf("%d runs were sent, want none", len(b.more))
	}
	b.down, b.time = nil, b.time.Add(time.Hour)
	if err := b.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.work(t)
	b.wantShared(t, 120)
}

func TestAnUnreadableStepIsRefused(t *testing.T) {
	b := newBacklog(t, 1, 1)
	if err := b.plan.Do(t.Context(), "t0", json.RawMessage(`[]`)); !errors.Is(err, audit.ErrUnreadable) {
		t.Errorf("got %v, want %v", err, audit.ErrUnreadable)
	}
}
