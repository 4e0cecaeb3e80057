package sqlite

import (
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestBacklogIsFair: once as much waits as may be ahead, those who send much have to wait. A
// tenant that has less than its part does not.
func TestBacklogIsFair(t *testing.T) {
	b := newBacklog()
	for _, step := range []struct {
		tenant  audit.TenantID
		size    int
		entered bool
	}{
		{"big", 600, true},
		{"big", 600, true}, // less than 1,000 wait before
		{"big", 10, false},
		{"small", 400, true}, // less than half of 1,000
		{"small", 200, false},
		{"other", 300, true},   // less than a third
		{"large", 2000, false}, // more than its part, though it sent nothing before
	} {
		if _, got := b.tryEnter(step.tenant, step.size, 1000, false); got != step.entered {
			t.Errorf("%s sends %d bytes: entered %t, want %t", step.tenant, step.size, got, step.entered)
		}
	}
	if _, entered := b.tryEnter("big", 10, 1000, true); !entered {
		t.Error("after its wait, a tenant did not enter, want it to")
	}
	if got, want := b.bytes, 600+600+400+300+10; got != want {
		t.Errorf("%d bytes wait, want %d", got, want)
	}
}

// TestBacklogTellsWhenLessWaits: senders wait for nothing else.
func TestBacklogTellsWhenLessWaits(t *testing.T) {
	b := newBacklog()
	b.tryEnter("big", 2000, 1000, false)
	for name, change := range map[string]func(){
		"leave": func() { b.leave(map[audit.TenantID]int{"big": 500}) },
		"clear": b.clear,
	} {
		b.tryEnter("big", 1000, 1000, true)
		less, _ := b.tryEnter("big", 1, 1000, false)
		change()
		select {
		case <-less:
		default:
			t.Errorf("%s does not tell that less waits, want it to", name)
		}
	}
}

// TestGatheringEnds: a receive after many messages waits for more, until enough are there or none come.
func TestGatheringEnds(t *testing.T) {
	const d = time.Hour
	b := newBacklog()
	// left says for about how long gathering goes on.
	left := func() time.Duration {
		_, left := b.gathering(d)
		return max(0, left)
	}
	b.note(gatherFrom-1, false)
	if got := left(); got > 0 {
		t.Errorf("after few messages, gathering for %s, want not at all", got)
	}
	b.note(gatherFrom, false)
	if got := left(); got < d-time.Minute {
		t.Errorf("with nothing waiting, gathering for %s, want %s", got, d)
	}
	b.tryEnter("acme", 1000, MaxReceived, false)
	b.sentAt = time.Now().Add(-time.Minute)
	if got := left(); got != gatherIdle {
		t.Errorf("while a message is sent, gathering for %s, want %s before it looks again", got, gatherIdle)
	}
	b.sent("acme", 1000, nil)
	if got := left(); got > gatherIdle {
		t.Errorf("with a message waiting, gathering for %s, want %s at most: soon after the last was sent", got, gatherIdle)
	}
	b.sentAt = b.sentAt.Add(-gatherIdle)
	if got := left(); got > 0 {
		t.Errorf("after a while without messages, gathering for %s, want not at all", got)
	}
	b.sentAt, b.receivedAt = time.Now(), time.Now().Add(-d)
	if got := left(); got > 0 {
		t.Errorf("gathering for %s longer, want no longer than the bound", got)
	}
	b.note(gatherFrom, false)
	b.clear()
	for _, size := range []int{1, MaxReceived} {
		more, _ := b.gathering(d)
		b.tryEnter("acme", size, 2*MaxReceived, true)
		select {
		case <-more:
		default:
			t.Errorf("nothing tells of the %d bytes that came, want it to", size)
		}
	}
	if got := left(); got > 0 {
		t.Errorf("with enough waiting, gathering for %s, want not at all", got)
	}
	b.clear()
	b.note(gatherFrom, true)
	if got := left(); got > 0 {
		t.Errorf("after a receive that left messages, gathering for %s, want not at all", got)
	}
}

// TestBacklogIsNeverNegative: messages of an earlier process are received that were not counted.
func TestBacklogIsNeverNegative(t *testing.T) {
	b := newBacklog()
	b.tryEnter("acme", 100, 1000, false)
	b.leave(map[audit.TenantID]int{"acme": 500, "other": 500})
	if got, want := b.bytes, 0; got != want {
		t.Errorf("%d bytes wait, want %d", got, want)
	}
	if got, want := len(b.tenants), 0; got != want {
		t.Errorf("%d tenants wait, want %d", got, want)
	}
}
