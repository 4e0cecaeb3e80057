package sqlite

import (
	"testing"

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
		"leave": func() { b.leave("big", 500) },
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

// TestBacklogIsNeverNegative: messages of an earlier process are received that were not counted.
func TestBacklogIsNeverNegative(t *testing.T) {
	b := newBacklog()
	b.tryEnter("acme", 100, 1000, false)
	b.leave("acme", 500)
	b.leave("other", 500)
	if got, want := b.bytes, 0; got != want {
		t.Errorf("%d bytes wait, want %d", got, want)
	}
	if got, want := len(b.tenants), 0; got != want {
		t.Errorf("%d tenants wait, want %d", got, want)
	}
}
